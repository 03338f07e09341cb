//! How the command ends, and the exit codes that say so.

/// The end of a command that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It did all that was asked for.
    All,
    /// A run that was asked to stop; it can be resumed.
    Stopped,
}

/// Exit code of a refusal.
pub const REFUSED: u8 = 2;
/// Exit code of a run that was asked to stop: 128 and the number of SIGINT, as in shells.
pub const STOPPED: u8 = 130;
