use crate::chaos::Stage;
use crate::error::Result;

/// The part.
pub fn run(_: &Stage<'_>) -> Result<()> {
    Ok(())
}
