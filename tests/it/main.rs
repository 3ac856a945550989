//! Promises of the whole, each on real stores.

#[cfg(test)]
mod api_auth;
#[cfg(test)]
mod api_businesses;
#[cfg(test)]
mod api_frame;
#[cfg(test)]
mod api_harness;
#[cfg(test)]
mod api_idempotency;
#[cfg(test)]
mod api_suppressions;
