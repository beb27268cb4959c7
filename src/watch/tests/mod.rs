//! The watchers on a scripted account and a virtual clock: nothing here sleeps.

mod figures;
mod following;
mod telephone;
