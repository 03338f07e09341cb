//! Names of a BERT in Hugging Face files.
