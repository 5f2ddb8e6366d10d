//! Loads libraries, each once, and remembers them: nothing that was loaded is ever unloaded, since
//! nobody can tell whether some thread is still in it.

#![expect(unsafe_code, reason = "dlopen runs code of others")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use super::descriptor::{self, Calls};
use super::file::{FileId, Library};
use super::{ModuleDescription, probe, refused};
use crate::abi::Descriptor;
use crate::error::{ErrorCategory, Failure};
use crate::module::ModuleInfo;

/// What has been opened in this process, by any master.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// Held while a library is opened, which may run for long; the list can be read meanwhile.
static OPENING: Mutex<()> = Mutex::new(());

/// One library. The system knows it by its path, and would give it again for another file there.
struct Opened {
    path: PathBuf,
    id: FileId,
    handle: &'static Handle,
    modules: Vec<Arc<Loaded>>,
}

/// One module of a library.
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    symbol: String,
    pub(super) calls: Calls,
    pub(super) description: ModuleDescription,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    instances: usize,
    /// No new instance is made.
    closed: bool,
}

/// An instance, counted until it is dropped.
pub(super) struct Live(pub(super) Arc<Loaded>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.usage().instances -= 1;
    }
}

impl Loaded {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more instance, if there may be one.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Live, Failure> {
        let mut usage = self.usage();
        if usage.closed {
            return Err(refused(&self.path, "it was unloaded; load it again first"));
        }
        if self.description.single_instance && usage.instances > 0 {
            let message = "it allows one instance at a time, and there is one";
            return Err(refused(&self.path, message));
        }
        usage.instances += 1;
        Ok(Live(Arc::clone(self)))
    }

    /// One that is in this program itself.
    #[cfg(test)]
    pub(super) fn within(calls: Calls, description: ModuleDescription) -> Arc<Self> {
        let (path, symbol, usage) = (PathBuf::new(), String::new(), Mutex::default());
        Arc::new(Self { path, symbol, calls, description, usage })
    }
}

/// The module that a library exports under a symbol. The library is checked, tried by
/// `prober` if there is one, and loaded, unless that was done before.
///
/// Blocks while it does so, up to the time that a trial may take.
pub(super) fn open(
    path: &Path,
    symbol: &str,
    prober: Option<&Path>,
) -> Result<Arc<Loaded>, Failure> {
    let mut library = Library::open(path)?;
    if let Known::Module(loaded) = known(&library, symbol)? {
        return Ok(loaded);
    }
    library.check()?;
    if let Some(program) = prober {
        probe(program, &library.path, symbol)?;
    }
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let handle = match known(&library, symbol)? {
        Known::Module(loaded) => return Ok(loaded),
        Known::Library(handle) => handle,
        Known::Nothing => dlopen(&library)?,
    };
    let broken = |why: String| refused(&library.path, why).permanent();
    // SAFETY: the symbol is taken as a pointer and nothing else.
    let at = unsafe { handle.get::<*const Descriptor>(symbol) };
    let at = at.map_err(|error| {
        broken(format!("it has no symbol {symbol:?}: {}", with_sources(&error)))
    })?;
    // SAFETY: the loader has just found it, and the library stays.
    let (calls, description) = unsafe { descriptor::read(*at) }.map_err(broken)?;
    let loaded = Arc::new(Loaded {
        path: library.path.clone(),
        symbol: symbol.to_owned(),
        calls,
        description,
        usage: Mutex::default(),
    });
    if let Some(opened) = opened().iter_mut().find(|opened| opened.id == library.id) {
        opened.modules.push(Arc::clone(&loaded));
    }
    Ok(loaded)
}

fn opened() -> MutexGuard<'static, Vec<Opened>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a file.
enum Known {
    Nothing,
    Library(&'static Handle),
    Module(Arc<Loaded>),
}

/// Looks a library up; one that has changed since it was loaded is refused.
fn known(library: &Library, symbol: &str) -> Result<Known, Failure> {
    let opened = opened();
    let same_file = opened.iter().find(|opened| opened.id.is_same_file(&library.id));
    let Some(opened) = same_file.or_else(|| opened.iter().find(|o| o.path == library.path)) else {
        return Ok(Known::Nothing);
    };
    if opened.id != library.id {
        let message = "the file has changed since this program loaded it, and a library cannot be \
                       loaded anew: restart this program, or run the worker with `type: process`";
        return Err(refused(&library.path, message).permanent());
    }
    let module = opened.modules.iter().find(|loaded| loaded.symbol == symbol);
    Ok(module.map_or(Known::Library(opened.handle), |loaded| Known::Module(Arc::clone(loaded))))
}

fn dlopen(library: &Library) -> Result<&'static Handle, Failure> {
    // Every symbol is bound now, or a missing one would end the process when it is called; none is
    // lent to other libraries, which may have the same.
    let flags = RTLD_NOW | RTLD_LOCAL;
    // SAFETY: the code it runs is trusted as the configuration that names it; the path is absolute.
    let handle = unsafe { Handle::open(Some(library.path.as_path()), flags) };
    let handle = handle.map_err(|error| refused(&library.path, with_sources(&error)))?;
    let handle = &*Box::leak(Box::new(handle));
    let (path, id) = (library.path.clone(), library.id);
    opened().push(Opened { path, id, handle, modules: Vec::new() });
    Ok(handle)
}

/// An error with its causes: the loader's own words are in one.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Loads a module, so that it is ready, also after it was unloaded.
///
/// # Errors
/// Why it is refused.
pub(crate) fn load(
    path: &Path,
    symbol: &str,
    prober: Option<&Path>,
) -> Result<ModuleDescription, Failure> {
    let loaded = open(path, symbol, prober)?;
    loaded.usage().closed = false;
    Ok(loaded.description.clone())
}

/// Makes no new instances of a library's modules until they are loaded again. The library stays in
/// memory.
///
/// # Errors
/// It is not loaded, or instances live.
pub(crate) fn unload(path: &Path) -> Result<(), Failure> {
    // A file that is gone may be unloaded still.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let opened = opened();
    let modules = opened.iter().find(|opened| opened.path == path).map(|opened| &opened.modules);
    let modules = modules.map(Vec::as_slice).unwrap_or_default();
    let mut usages: Vec<_> = modules.iter().map(|loaded| loaded.usage()).collect();
    if usages.iter().all(|usage| usage.closed) {
        return Err(refused(&path, "it is not loaded"));
    }
    let instances: usize = usages.iter().map(|usage| usage.instances).sum();
    if instances > 0 {
        let message = format!("plugin {}: {instances} of its instances live", path.display());
        return Err(Failure::new(ErrorCategory::Refused, message));
    }
    usages.iter_mut().for_each(|usage| usage.closed = true);
    Ok(())
}

/// The modules that are loaded, each with its library's path.
pub(crate) fn loaded() -> Vec<(String, ModuleInfo)> {
    let opened = opened();
    let modules = opened.iter().flat_map(|opened| &opened.modules);
    let modules = modules.filter(|loaded| !loaded.usage().closed);
    modules.map(|l| (l.path.display().to_string(), l.description.info())).collect()
}
