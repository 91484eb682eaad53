//! The target driven by bytes: a desk, two reactors' ports and a store in memory, with scripted hosts on the other
//! side of sockets that exist only here. Each test claims one thing that real hosts depend on.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod fabrics;
#[cfg(test)]
mod fences;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod host;
#[cfg(test)]
mod identify;
#[cfg(test)]
mod limited;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod nvm;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod world;
