//! V2Ray configuration: text in, a model or an error out.
