//! What to do next, for who has typed the program's name alone.

use std::path::Path;

use super::Environment;
use super::settings::ClientArgs;
use crate::serve::options::default_state;

/// The text.
pub(super) fn text(environment: Environment<'_>) -> String {
    let settled = ClientArgs::default().settle(environment);
    let has_token = settled.is_ok_and(|settings| settings.token().is_ok());
    next(has_token, &default_state())
}

fn next(has_token: bool, state: &Path) -> String {
    let mut text = String::from("Ferrule: block storage over NVMe/TCP\n\n");
    let token = state.join("system.jwt");
    if has_token {
        text += "There is a token. Next:\n";
    } else if token.exists() {
        text +=
            &format!("A server has kept its token here. Next:\n  export FERRULE_JWT=@{}\n", token.display());
    } else {
        text += &format!(
            "There is no token yet. Start a server, and use the token that it makes:\n  ferrule serve\n  export \
             FERRULE_JWT=@{}\nThen:\n",
            token.display()
        );
    }
    text += "  ferrule create volume --name v1 --size 1GiB --acl ALLOW_ANY\n  ferrule list volumes\n\n";
    text += "Connect a Linux host with the line that ferrule serve prints. All commands: ferrule --help\n";
    text
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::serve::files::test::Folder;

    #[test]
    fn the_next_step_follows_from_what_there_is() {
        let folder = Folder::new("guide");
        assert!(next(false, folder.path()).contains("  ferrule serve\n"));
        assert!(!next(true, folder.path()).contains("export"));
        std::fs::write(folder.path().join("system.jwt"), "").unwrap();
        let text = next(false, folder.path());
        assert!(text.contains("export FERRULE_JWT=@") && !text.contains("  ferrule serve\n"), "{text}");
    }
}
