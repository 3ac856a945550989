//! Tests across modules, one file per promise, in one program so that it links once.

mod leads_check;
mod leads_csv;
mod leads_example;
