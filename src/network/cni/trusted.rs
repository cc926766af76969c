//! Files that run, or say what runs, as root: nobody else may have written them.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const ROOT: u32 = 0;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const EXECUTABLE: u32 = 0o111;

/// A file's bytes, of which there may be only so many.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    // Non-blocking: a fifo in the place of the file must not hold us.
    let mut options = File::options();
    let options = options.read(true).custom_flags(O_NONBLOCK);
    let file = options.open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if let Some(why) = fault(&metadata) {
        return Err(why.to_owned());
    }
    if metadata.len() > bytes_max {
        return Err(format!("it has more than {bytes_max} bytes"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Why a program must not be run.
pub(crate) fn fault_of_program(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Err(error) => Some(format!("{}: {error}", path.display())),
        Ok(metadata) => fault(&metadata)
            .or((metadata.mode() & EXECUTABLE == 0).then_some("it is not executable"))
            .map(|why| format!("{}: {why}", path.display())),
    }
}

fn fault(metadata: &Metadata) -> Option<&'static str> {
    if !metadata.is_file() {
        Some("it is no regular file")
    } else if metadata.uid() != ROOT {
        Some("it does not belong to root")
    } else if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        Some("others than root may write it; take that away with `chmod go-w`")
    } else {
        None
    }
}

/// Of `open(2)`, as on every architecture that we run on.
const O_NONBLOCK: i32 = 0o4000;
