//! `bitnet man DIR`.

use std::fs;

use clap::CommandFactory;

use crate::{
    args::{Cli, ManArgs},
    failure::{Failure, Result},
    files::Draft,
    terminal,
};

/// One page for the command and one for each subcommand.
pub fn run(args: &ManArgs) -> Result<()> {
    fs::create_dir_all(&args.dir).map_err(|e| Failure::io("create", &args.dir, &e))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let subcommands: Vec<_> = command.get_subcommands().cloned().collect();
    for page in std::iter::once(command).chain(subcommands) {
        let name = page.get_display_name().unwrap_or_else(|| page.get_name()).to_owned();
        let path = args.dir.join(format!("{name}.1"));
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(page).render(&mut text);
        rendered.map_err(|e| Failure::io("write", &path, &e))?;
        let mut draft = Draft::of_output(&path, args.force)?;
        draft.write(&text)?;
        draft.publish()?;
        terminal::print_line(format_args!("{}", path.display()))?;
    }
    Ok(())
}
