//! A library's descriptor: read with care, and turned into what can be relied on.

#![expect(unsafe_code, reason = "the descriptor is behind a pointer, and so are its texts")]

use std::ffi::c_char;

use super::ModuleDescription;
use crate::abi::{self, Call, Create, Descriptor, Notify, Sink, Str};

/// The longest text of a descriptor.
const MAX_NAME: usize = 255;

type WithSink = unsafe extern "C" fn(*mut std::ffi::c_void, *const Sink) -> i32;

/// The functions of a module; all are there but for `call`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    pub(super) create: Create,
    pub(super) initialize: unsafe extern "C" fn(*mut std::ffi::c_void, Str, *const Sink) -> i32,
    pub(super) start: WithSink,
    pub(super) stop: unsafe extern "C" fn(*mut std::ffi::c_void, u64, *const Sink) -> i32,
    pub(super) is_healthy: WithSink,
    pub(super) get_info: WithSink,
    pub(super) destroy: Notify,
    pub(super) call: Option<Call>,
}

/// Reads a descriptor, and says what is wrong with it.
///
/// # Safety
/// `at` leads to a symbol of a loaded library. If it begins as a descriptor does, it is one:
/// nothing can tell a lie from the truth here.
pub(super) unsafe fn read(at: *const Descriptor) -> Result<(Calls, ModuleDescription), String> {
    if at.is_null() || !at.is_aligned() {
        return Err("its symbol leads to nothing that could be a descriptor".to_owned());
    }
    // SAFETY: a symbol of a library is in mapped memory, and this much of it is read as bytes.
    let magic = unsafe { at.cast::<u64>().read() };
    if magic != abi::MAGIC {
        return Err("bad magic: its symbol is no module descriptor".to_owned());
    }
    // SAFETY: it begins as a descriptor does, whose head is the same in all versions.
    let (size, major, minor) = unsafe { ((*at).struct_size, (*at).abi_major, (*at).abi_minor) };
    if major != abi::MAJOR {
        return Err(format!(
            "its ABI version is {major}.{minor}, and this program has {}.{}: build it anew",
            abi::MAJOR,
            abi::MINOR
        ));
    }
    if (size as usize) < size_of::<Descriptor>() {
        let needed = size_of::<Descriptor>();
        return Err(format!("its descriptor has {size} bytes, and version 1.0 has {needed}"));
    }
    // SAFETY: it says that it is as large as what is read.
    let raw = unsafe { at.read() };
    let calls = Calls {
        create: raw.create.ok_or_else(|| null("create"))?,
        initialize: raw.initialize.ok_or_else(|| null("initialize"))?,
        start: raw.start.ok_or_else(|| null("start"))?,
        stop: raw.stop.ok_or_else(|| null("stop"))?,
        is_healthy: raw.is_healthy.ok_or_else(|| null("is_healthy"))?,
        get_info: raw.get_info.ok_or_else(|| null("get_info"))?,
        destroy: raw.destroy.ok_or_else(|| null("destroy"))?,
        call: raw.call,
    };
    // SAFETY: the texts of a descriptor are null or end in NUL, or are cut where they get too long.
    let [name, version, description, author, built_with] = unsafe {
        [raw.name, raw.version, raw.description, raw.author, raw.built_with].map(|at| text(at))
    };
    check_flags(raw.flags)?;
    let description = ModuleDescription {
        name: required("name", name)?,
        version: required("version", version)?,
        description: optional(description),
        author: optional(author),
        built_with: optional(built_with),
        abi: (major, minor),
        single_instance: raw.flags & abi::FLAG_SINGLE_INSTANCE != 0,
        callable: raw.call.is_some(),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !description.name.bytes().all(allowed) {
        let name = &description.name;
        return Err(format!("its name is {name:?}; use letters, digits, '_', '.' and '-'"));
    }
    Ok((calls, description))
}

fn null(member: &str) -> String {
    format!("its descriptor's {member} is null")
}

fn check_flags(flags: u64) -> Result<(), String> {
    let unknown = flags & !(abi::FLAG_PANIC_ABORT | abi::FLAG_SINGLE_INSTANCE);
    if unknown != 0 {
        return Err(format!("it sets the flags {unknown:#x}, which this program does not know"));
    }
    if flags & abi::FLAG_PANIC_ABORT != 0 {
        let message = "it is built with panic = \"abort\", so that a panic in it would end this \
                       program: build it with panic = \"unwind\"";
        return Err(message.to_owned());
    }
    Ok(())
}

/// A text up to its NUL, or up to one byte too many.
///
/// # Safety
/// `at` is null, or leads to bytes that end in NUL.
unsafe fn text(at: *const c_char) -> Option<Vec<u8>> {
    if at.is_null() {
        return None;
    }
    let mut bytes = Vec::new();
    while bytes.len() <= MAX_NAME {
        // SAFETY: no byte before this one was the NUL that ends the text.
        let byte = unsafe { at.cast::<u8>().add(bytes.len()).read() };
        if byte == 0 {
            break;
        }
        bytes.push(byte);
    }
    Some(bytes)
}

fn required(member: &str, text: Option<Vec<u8>>) -> Result<String, String> {
    let Some(bytes) = text else { return Err(null(member)) };
    if bytes.is_empty() || bytes.len() > MAX_NAME {
        return Err(format!("its {member} is empty or longer than {MAX_NAME} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| format!("its {member} is not UTF-8"))
}

fn optional(text: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
}
