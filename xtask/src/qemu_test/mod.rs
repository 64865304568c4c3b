//! (skeleton)
use crate::cli::QemuTestArgs;
use crate::error::Result;
/// x
pub fn qemu_test(_a: &QemuTestArgs) -> Result<()> {
    Ok(())
}
