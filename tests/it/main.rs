//! Promises of the product, one file each.
mod sandbox_carrier;
mod sandbox_carrier_desk;
mod sandbox_carrier_faults;
mod sandbox_carrier_figures;
mod sandbox_carrier_lists;
mod sandbox_carrier_signature;
