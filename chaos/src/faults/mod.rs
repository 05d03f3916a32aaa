//! What is done to nodes. Each fault records itself. Imports cluster and history.

pub mod kill;
pub mod pause;
pub mod restart;
pub mod terminate;
pub mod wipe;
