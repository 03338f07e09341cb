//! dfdx on Cuda (under construction).
