//! Where flow state is kept, one file each. All of them keep the one contract of `contract`.

pub mod memory;

#[cfg(test)]
mod contract;
