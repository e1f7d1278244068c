//! Rules that a test build (feature `mutants`) breaks on purpose, named by `ROCKET_MUTANT`: one of the store's, or one of the
//! protocol's by its number in docs/replication.md §13.3. In every other build there are none.

#[cfg(not(feature = "mutants"))]
use rocket_replication::mutations::Mutations;

#[cfg(feature = "mutants")]
pub use switch::choose;
#[cfg(feature = "mutants")]
pub(crate) use switch::mutations;

/// The broken rules of this process.
#[cfg(not(feature = "mutants"))]
pub(crate) fn mutations() -> Mutations {
    Mutations::default()
}

#[cfg(feature = "mutants")]
mod switch {
    use std::sync::OnceLock;

    use rocket_replication::mutations::{Mutant, Mutations};

    static CHOSEN: OnceLock<Mutations> = OnceLock::new();

    /// Those that a replica can break by itself.
    const OF_A_REPLICA: [Mutant; 10] = [
        Mutant::M3,
        Mutant::M4,
        Mutant::M7,
        Mutant::M10,
        Mutant::M12,
        Mutant::M16,
        Mutant::M17,
        Mutant::M18,
        Mutant::M19,
        Mutant::M36,
    ];

    /// The broken rules of this process.
    pub(crate) fn mutations() -> Mutations {
        CHOSEN.get().copied().unwrap_or_default()
    }

    /// Breaks the rule `name` for the whole process, once, before anything starts.
    ///
    /// # Errors
    /// There is no rule of that name, or one is broken already.
    pub fn choose(name: &str) -> Result<(), String> {
        let mut all = OF_A_REPLICA.into_iter();
        match all.find(|mutant| format!("{mutant:?}") == name) {
            Some(mutant) => CHOSEN
                .set(Mutations::default().with(mutant))
                .map_err(|_| "a mutant is on already".to_owned()),
            None => rocket_store::choose_mutant(name),
        }
    }
}
