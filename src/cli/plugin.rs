//! `plugin check`: say what a library is, or why no worker can run it.

use std::path::Path;

use serde_json::{Value, json};

use super::args::PluginCheck;
use super::{Outcome, complain, print};
use crate::error::{Error, Failure};
use crate::host::plugin::{ModuleDescription, examine};
use crate::host::roles::this_program;

/// Checks a library, in a child if there can be one.
pub(super) fn check(arguments: &PluginCheck) -> Outcome {
    let PluginCheck { file, symbol, json } = arguments;
    let program = this_program();
    let examined = examine(file, symbol, program.as_ref().map(|program| program.path.as_path()));
    if *json {
        let printed = print(&format!("{:#}\n", as_json(file, symbol, &examined)));
        return if examined.is_ok() { printed } else { Outcome::Failed };
    }
    match examined {
        Ok(described) => {
            let caution = if program.is_none() { " (loaded into this very process)" } else { "" };
            print(&summary(file, symbol, &described, caution))
        }
        Err(failure) => {
            complain(&Error::from(&failure));
            Outcome::Failed
        }
    }
}

fn summary(file: &Path, symbol: &str, about: &ModuleDescription, caution: &str) -> String {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let instances = if about.single_instance { "one at a time" } else { "any number" };
    let functions = if about.callable { "can be called" } else { "none" };
    let (major, minor) = about.abi;
    let file = file.display();
    format!(
        "{file}: a sound plugin{caution}\n  module       {} {}\n  description  {}\n  \
         author       {}\n  built with   {}\n  ABI          {major}.{minor}, as {symbol}\n  \
         instances    {instances}\n  functions    {functions}\n",
        about.name,
        about.version,
        or_none(&about.description),
        or_none(&about.author),
        or_none(&about.built_with),
    )
}

fn as_json(file: &Path, symbol: &str, examined: &Result<ModuleDescription, Failure>) -> Value {
    let file = file.display().to_string();
    match examined {
        Ok(about) => json!({
            "file": file,
            "ok": true,
            "symbol": symbol,
            "name": about.name,
            "version": about.version,
            "description": about.description,
            "author": about.author,
            "built_with": about.built_with,
            "abi": format!("{}.{}", about.abi.0, about.abi.1),
            "single_instance": about.single_instance,
            "functions": about.callable,
        }),
        Err(failure) => json!({
            "file": file,
            "ok": false,
            "symbol": symbol,
            "category": failure.category,
            "message": failure.to_string(),
        }),
    }
}
