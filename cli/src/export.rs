//! `posthouse export`: what a messenger keeps about a user, as JSON.

use posthouse_client::{Export, Identity, Messenger};

use crate::{args::ExportArgs, failure::Failure, output, password};

pub(crate) async fn run(args: ExportArgs) -> Result<(), Failure> {
    let messenger = Messenger::new(&args.url)?;
    let password = password::read(&args.user)?;
    let identity = Identity::sign_in(&messenger, &args.user, &password).await?;
    let export = Export::read(&identity).await?;
    output::document(&export);
    // The session is of no use any more. One that cannot be ended now ends by itself.
    drop(identity.sign_out().await);
    Ok(())
}
