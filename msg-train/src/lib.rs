//! Staged trainer.
