//! `bitnet logits MODEL --ids-file ids.json --out out.npy`.

use bitnet_inference::Session;

use crate::{
    args::LogitsArgs,
    failure::{Failure, Result},
    files::{self, Draft},
    human,
    interrupt::Guard,
    load, npy,
    progress::{ProgressMeter, Unit},
    terminal,
};

pub fn run(args: &LogitsArgs) -> Result<()> {
    files::check_output(&args.out, args.force)?;
    files::warn_of_ending(&args.out, "npy", "NumPy's .npy");
    let ids = files::read_ids(&args.ids_file)?;
    if ids.is_empty() {
        return Err(Failure::new(format_args!("{} holds no ids", args.ids_file.display()))
            .cure("give at least one, such as [1]"));
    }
    let mut engine_args = args.engine.clone();
    if engine_args.context.is_none() {
        // The ids say how much room they need, whatever the model was made for.
        engine_args.context = u32::try_from(ids.len()).ok();
    }
    let engine = load::for_evaluation(&args.model, &engine_args)?;
    let vocabulary = engine.config().vocab;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(Failure::new(format_args!("token id {id} is outside the vocabulary of {vocabulary}")));
    }
    let mut session = engine.session().map_err(load::failure)?;
    let mut draft = Draft::of_output(&args.out, args.force)?;
    let header = npy::header(ids.len(), vocabulary);
    draft.write(&header)?;
    write_rows(&mut session, &ids, &mut draft)?;
    draft.publish()?;
    terminal::note(format_args!(
        "{}: {} x {} logits, {}",
        args.out.display(),
        ids.len(),
        vocabulary,
        human::bytes((header.len() + ids.len() * vocabulary * size_of::<f32>()) as u64)
    ));
    Ok(())
}

/// Rows of a part between two looks at Ctrl-C, so that it leaves no half-written file behind.
const PART: usize = 64;

fn write_rows(session: &mut Session, ids: &[u32], draft: &mut Draft) -> Result<()> {
    let guard = Guard::new();
    let progress = ProgressMeter::new("logits", ids.len() as u64, Unit::Items);
    let (mut bytes, mut rows) = (Vec::new(), 0);
    for part in ids.chunks(PART) {
        if guard.pressed() {
            return Err(Failure::Interrupted);
        }
        let mut written = Ok(());
        let done = session.logits(part, |logits| {
            bytes.clear();
            npy::row(logits, &mut bytes);
            if written.is_ok() {
                written = draft.write(&bytes);
            }
            rows += 1;
            progress.set(rows, ids.len() as u64);
        });
        done.map_err(load::failure)?;
        written?;
    }
    Ok(())
}
