//! `bitnet list`: the models that were fetched.

use serde::Serialize;

use crate::{
    args::ListArgs,
    failure::Result,
    hub::{Cache, Kept},
    human::{self, TextTable},
    terminal,
};

#[derive(Serialize)]
struct Model {
    repo: String,
    path: String,
    bytes: u64,
    files: usize,
    revisions: Vec<String>,
}

pub fn run(args: &ListArgs) -> Result<()> {
    let cache = Cache::from_env()?;
    let kept = cache.kept()?;
    if args.json {
        return terminal::print_json(&kept.into_iter().map(Model::from).collect::<Vec<_>>());
    }
    if kept.is_empty() {
        terminal::note(format_args!("no model was fetched: there is none in {}", cache.root().display()));
        return Ok(());
    }
    let mut table = TextTable::new(&["model", "size", "files", "revision"]);
    for model in &kept {
        let revisions = match model.revisions.as_slice() {
            [] => "not complete: pull it again, or remove it".to_owned(),
            all => all.join(", "),
        };
        table.row(vec![
            model.repo.to_string(),
            human::bytes(model.bytes),
            model.files.to_string(),
            revisions,
        ]);
    }
    terminal::print(&table.text())?;
    terminal::note(format_args!(
        "{} in {}",
        human::bytes(kept.iter().map(|model| model.bytes).sum()),
        cache.root().display()
    ));
    Ok(())
}

impl From<Kept> for Model {
    fn from(kept: Kept) -> Self {
        let Kept { repo, path, bytes, files, revisions } = kept;
        Self { repo: repo.to_string(), path: path.display().to_string(), bytes, files, revisions }
    }
}
