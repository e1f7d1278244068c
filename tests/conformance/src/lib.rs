//! Real clients against the broker, a real Kubernetes against the operator.
#![forbid(unsafe_code)]
