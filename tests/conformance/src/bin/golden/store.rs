//! Lets Apache's broker write small stores, and says what is in them.

use std::path::Path;

use anyhow::Result;
use conformance::programs::Programs;

/// Writes both stores and their manifests.
pub(crate) fn record(_programs: &Programs, _out: &Path) -> Result<()> {
    anyhow::bail!("not yet")
}
