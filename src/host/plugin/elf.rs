//! A look at a library's ELF headers before the loader sees it: what it would answer with a bus
//! error or a misleading text is refused here in words. Pure, and never panics, whatever the bytes.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// The size of the header of a 64-bit file.
const HEADER: usize = 64;
/// The size of an entry of the program header table.
const SEGMENT: usize = 56;
/// The size of an entry of the section header table.
const SECTION: u64 = 64;
/// No library has more segments; a table as large as its entries' type allows is nonsense.
const MAX_SEGMENTS: u64 = 512;

const TYPE_SHARED: u16 = 3;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_DYNAMIC: u32 = 2;

/// What this program is built for, as files call it.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else if cfg!(target_arch = "riscv64") {
    Some(243)
} else {
    None
};

/// Why a file is no library for this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not what it is taken for, or is made for something else.
    Unfit(String),
    /// Some of it is missing: it may be on its way still.
    Truncated(String),
    /// It cannot be read.
    Unreadable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(why) => f.write_str(why),
            Self::Truncated(why) => write!(f, "truncated: {why}"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// Checks the headers of a file of `size` bytes. Reads its header and its table of segments, and no
/// more of it.
///
/// # Errors
/// Why the loader must not see it.
pub(crate) fn check(file: &mut (impl Read + Seek), size: u64) -> Result<(), Refusal> {
    let mut header = [0; HEADER];
    let begin = usize::try_from(size).unwrap_or(HEADER).min(HEADER);
    read_at(file, 0, &mut header[..begin])?;
    let table = check_header(&header[..begin], size)?;
    let mut segments = vec![0; table.length];
    read_at(file, table.offset, &mut segments)?;
    check_segments(&segments, size)
}

fn read_at(file: &mut (impl Read + Seek), at: u64, bytes: &mut [u8]) -> Result<(), Refusal> {
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(bytes));
    read.map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Refusal::Truncated("it became shorter meanwhile".into())
        } else {
            Refusal::Unreadable(error.to_string())
        }
    })
}

/// Where the segments are described.
struct Table {
    offset: u64,
    length: usize,
}

fn unfit<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unfit(why.into()))
}

/// Checks what the file says of itself as a whole.
fn check_header(header: &[u8], size: u64) -> Result<Table, Refusal> {
    if header.is_empty() {
        return Err(Refusal::Truncated("the file is empty".into()));
    }
    if !header.starts_with(b"\x7fELF") {
        return if b"\x7fELF".starts_with(header) {
            Err(Refusal::Truncated(format!("the file has only {size} bytes")))
        } else {
            unfit("it is no shared library: it does not begin as an ELF file does")
        };
    }
    let fields = Fields(header);
    match fields.byte(4) {
        Some(2) => {}
        Some(1) => return unfit("built for a 32-bit machine, this program is 64-bit"),
        Some(class) => return unfit(format!("the ELF class {class} is unknown")),
        None => return Err(short_header(size)),
    }
    let little = cfg!(target_endian = "little");
    match fields.byte(5) {
        Some(1) if little => {}
        Some(2) if !little => {}
        Some(1) => return unfit("built for a little-endian machine, this program's is big-endian"),
        Some(2) => return unfit("built for a big-endian machine, this program's is little-endian"),
        Some(data) => return unfit(format!("the ELF byte order {data} is unknown")),
        None => return Err(short_header(size)),
    }
    let (Some(kind), Some(machine), Some(version)) =
        (fields.u16(16), fields.u16(18), fields.u32(20))
    else {
        return Err(short_header(size));
    };
    if MACHINE.is_some_and(|own| own != machine) {
        let own = std::env::consts::ARCH;
        return unfit(format!("built for {}, this program is {own}", machine_name(machine)));
    }
    if kind != TYPE_SHARED {
        let kind = match kind {
            1 => "an object file that was not linked",
            2 => "a program",
            4 => "a core dump",
            _ => "something else",
        };
        return unfit(format!("it is {kind}, not a shared library"));
    }
    if version != 1 {
        return unfit(format!("the ELF version {version} is unknown"));
    }
    tables(&fields, size)
}

/// Checks that the tables of segments and sections are in the file.
fn tables(fields: &Fields<'_>, size: u64) -> Result<Table, Refusal> {
    let (Some(offset), Some(sections), Some(entry), Some(count)) =
        (fields.u64(32), fields.u64(40), fields.u16(54), fields.u16(56))
    else {
        return Err(short_header(size));
    };
    let (Some(section_entry), Some(section_count)) = (fields.u16(58), fields.u16(60)) else {
        return Err(short_header(size));
    };
    if usize::from(entry) != SEGMENT {
        return unfit(format!("its segments are described in {entry} bytes instead of {SEGMENT}"));
    }
    if count == 0 || u64::from(count) > MAX_SEGMENTS {
        return unfit(format!("it has {count} segments"));
    }
    let length = usize::from(count) * SEGMENT;
    within(offset, length as u64, size, "its table of segments")?;
    // Sections are nothing to the loader, but their table is the last part of most files.
    if sections != 0 && section_count != 0 {
        if u64::from(section_entry) != SECTION {
            return unfit(format!("its sections are described in {section_entry} bytes each"));
        }
        within(sections, u64::from(section_count) * SECTION, size, "its table of sections")?;
    }
    Ok(Table { offset, length })
}

/// Checks that all that will be mapped is in the file: a page that is not would be a bus error.
fn check_segments(table: &[u8], size: u64) -> Result<(), Refusal> {
    let (mut loads, mut dynamics) = (0, 0);
    for (index, entry) in table.chunks_exact(SEGMENT).enumerate() {
        let fields = Fields(entry);
        let (Some(kind), Some(offset), Some(address), Some(in_file), Some(in_memory)) =
            (fields.u32(0), fields.u64(8), fields.u64(16), fields.u64(32), fields.u64(40))
        else {
            return unfit("its table of segments is broken");
        };
        if kind != SEGMENT_LOAD && kind != SEGMENT_DYNAMIC {
            continue;
        }
        within(offset, in_file, size, &format!("segment {index}"))?;
        if in_memory < in_file || address.checked_add(in_memory).is_none() {
            return unfit(format!("segment {index} does not fit into memory"));
        }
        loads += u32::from(kind == SEGMENT_LOAD);
        dynamics += u32::from(kind == SEGMENT_DYNAMIC);
    }
    if loads == 0 || dynamics != 1 {
        return unfit("it has no code to load, or none that can be linked");
    }
    Ok(())
}

/// Checks that a part of the file ends within it.
fn within(offset: u64, length: u64, size: u64, what: &str) -> Result<(), Refusal> {
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        Some(end) => Err(Refusal::Truncated(format!(
            "{what} ends at byte {end}, and the file at byte {size}"
        ))),
        None => unfit(format!("{what} ends beyond all bounds")),
    }
}

fn short_header(size: u64) -> Refusal {
    Refusal::Truncated(format!("the file has only {size} bytes"))
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86".into(),
        8 => "mips".into(),
        21 => "powerpc64".into(),
        22 => "s390x".into(),
        40 => "arm".into(),
        62 => "x86_64".into(),
        183 => "aarch64".into(),
        243 => "riscv".into(),
        258 => "loongarch".into(),
        other => format!("machine {other}"),
    }
}

/// Numbers in a header, in this machine's byte order.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }
    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_ne_bytes)
    }
    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }
    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A file with one segment to load, one to link, and two sections.
    fn sound() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        if cfg!(target_endian = "big") {
            file[5] = 2;
        }
        put(&mut file, 16, &TYPE_SHARED.to_ne_bytes());
        put(&mut file, 18, &MACHINE.unwrap_or(0).to_ne_bytes());
        put(&mut file, 20, &1_u32.to_ne_bytes());
        put(&mut file, 32, &64_u64.to_ne_bytes());
        put(&mut file, 40, &0x380_u64.to_ne_bytes());
        for (at, value) in [(54, 56_u16), (56, 2), (58, 64), (60, 2)] {
            put(&mut file, at, &value.to_ne_bytes());
        }
        segment(&mut file, 0, SEGMENT_LOAD, 0x100, 0x200);
        segment(&mut file, 1, SEGMENT_DYNAMIC, 0x200, 0x40);
        file
    }

    fn segment(file: &mut [u8], index: usize, kind: u32, offset: u64, length: u64) {
        let at = HEADER + index * SEGMENT;
        put(file, at, &kind.to_ne_bytes());
        for (field, value) in [(8, offset), (16, offset), (32, length), (40, length)] {
            put(file, at + field, &value.to_ne_bytes());
        }
    }

    fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn checked(file: &[u8]) -> Result<(), Refusal> {
        check(&mut Cursor::new(file), file.len() as u64)
    }

    fn refused(change: impl Fn(&mut Vec<u8>)) -> String {
        let mut file = sound();
        change(&mut file);
        checked(&file).unwrap_err().to_string()
    }

    #[test]
    fn b18_what_is_cut_anywhere_is_truncated() {
        let file = sound();
        assert_eq!(checked(&file), Ok(()));
        for end in 0..file.len() {
            let refusal = checked(&file[..end]).unwrap_err();
            assert!(matches!(refusal, Refusal::Truncated(_)), "at {end}: {refusal}");
        }
        assert_eq!(refused(Vec::clear), "truncated: the file is empty");
        assert_eq!(refused(|file| file.truncate(10)), "truncated: the file has only 10 bytes");
        assert_eq!(
            refused(|file| segment(file, 0, SEGMENT_LOAD, 0x100, 0x301)),
            "truncated: segment 0 ends at byte 1025, and the file at byte 1024"
        );
    }

    #[test]
    fn b19_what_is_built_for_others_is_named() {
        let own = std::env::consts::ARCH;
        let foreign = if MACHINE == Some(183) { (62_u16, "x86_64") } else { (183, "aarch64") };
        assert_eq!(
            refused(|file| put(file, 18, &foreign.0.to_ne_bytes())),
            format!("built for {}, this program is {own}", foreign.1)
        );
        assert_eq!(
            refused(|file| file[4] = 1),
            "built for a 32-bit machine, this program is 64-bit"
        );
        assert!(refused(|file| file[5] = 3 - file[5]).contains("-endian machine"));
    }

    #[test]
    fn what_is_no_library_is_said_to_be_none() {
        let text = "it is no shared library: it does not begin as an ELF file does";
        assert_eq!(checked(b"#!/bin/sh\n").unwrap_err().to_string(), text);
        for (kind, said) in [(1_u16, "an object file"), (2, "a program"), (4, "a core dump")] {
            assert!(refused(|file| put(file, 16, &kind.to_ne_bytes())).contains(said));
        }
        let changes: [(usize, u64, &str); 6] = [
            (32, u64::MAX, "its table of segments ends beyond all bounds"),
            (40, u64::MAX, "its table of sections ends beyond all bounds"),
            (54, 57, "its segments are described in 57 bytes instead of 56"),
            (56, 0, "it has 0 segments"),
            (56, 0xffff, "it has 65535 segments"),
            (58, 63, "its sections are described in 63 bytes each"),
        ];
        for (at, value, said) in changes {
            let width = if at < 54 { 8 } else { 2 };
            let number = value.to_le_bytes();
            if cfg!(target_endian = "little") {
                assert_eq!(refused(|file| put(file, at, &number[..width])), said);
            }
        }
        let nothing = "it has no code to load, or none that can be linked";
        assert_eq!(refused(|file| segment(file, 0, 0, 0, 0)), nothing);
        assert_eq!(refused(|file| segment(file, 1, 0, 0, 0)), nothing);
        let narrow = |file: &mut Vec<u8>| put(file, HEADER + 40, &1_u64.to_ne_bytes());
        assert_eq!(refused(narrow), "segment 0 does not fit into memory");
    }

    #[test]
    fn b18_no_bytes_make_it_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let (sound, mut accepted) = (sound(), 0);
        for _ in 0..1_000_000 {
            let mut file = sound.clone();
            for _ in 0..=random() % 4 {
                // Mostly in the headers, where it matters.
                let at = (random() % 176) as usize;
                file[at] = [0, 1, 0x7f, 0xff, random() as u8][(random() % 5) as usize];
            }
            if random() % 4 == 0 {
                file.truncate((random() % 1025) as usize);
            }
            // The size may be told wrongly, as when a file is cut while it is looked at.
            let told = if random() % 8 == 0 { random() } else { file.len() as u64 };
            accepted += u32::from(check(&mut Cursor::new(&file), told).is_ok());
        }
        assert!((5_000..950_000).contains(&accepted), "{accepted}: the fuzzer has no bite");
    }
}
