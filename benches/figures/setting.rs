//! A setting of the measured programs, as the command line names it.

/// Reads NAME=VALUE. A process's settings have names that live as long as it does.
pub(crate) fn setting(text: &str) -> Result<(&'static str, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is needed")?;
    Ok((Box::leak(name.to_owned().into_boxed_str()), value.to_owned()))
}
