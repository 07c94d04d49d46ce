//! `bitnet remove OWNER/REPO`: fetched models off the disk.

use std::io::{self, IsTerminal, Write};

use crate::{
    args::RemoveArgs,
    failure::{Failure, Result},
    hub::{Cache, Kept, RepoName},
    human, terminal,
};

pub fn run(args: &RemoveArgs) -> Result<()> {
    let cache = Cache::from_env()?;
    // All names are looked at before anything goes.
    let find = |name: &String| -> Result<Kept> {
        let repo = RepoName::require(name)?;
        cache.kept_of(&repo).ok_or_else(|| {
            Failure::new(format_args!("{repo} was not fetched: it is not in {}", cache.root().display()))
                .cure("bitnet list shows what is there")
        })
    };
    let models = args.repos.iter().map(find).collect::<Result<Vec<_>>>()?;
    for model in &models {
        let size = human::bytes(model.bytes);
        if !args.yes && !agreed(&format!("remove {}, {size}, from the disk?", model.repo))? {
            terminal::note(format_args!("{} stays", model.repo));
            continue;
        }
        model.remove()?;
        terminal::note(format_args!("{} is removed: {size}", model.repo));
    }
    Ok(())
}

/// Asks a person; where there is none, `--yes` has to be given.
fn agreed(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(
            Failure::usage("nobody is here to be asked whether a model may be removed").cure("add --yes")
        );
    }
    // Without a line end, so that the answer stands behind it.
    let asked = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|e| Failure::new(format_args!("nothing was answered: {e}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
