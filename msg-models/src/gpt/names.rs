//! Names of a GPT in Hugging Face files.
