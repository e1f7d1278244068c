//! Servers and clients over real loopback sockets.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod support;
