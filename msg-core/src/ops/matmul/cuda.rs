//! cuBLAS (under construction).
