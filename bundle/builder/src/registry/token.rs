//! The token that a registry demands.

use reqwest::{Url, header::HeaderValue};
use serde::Deserialize;

use super::unexpected;
use crate::{Error, fetch::Downloads, reference::Reference};

/// What a registry wants to be shown, if anything: most want a token, also from those who have no account.
pub(super) async fn authorization(downloads: &Downloads, reference: &Reference) -> Result<Option<HeaderValue>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let url = format!("{}://{}/v2/", downloads.scheme(), reference.registry);
    let Some(challenge) = downloads.challenge(&url).await? else { return Ok(None) };
    let Some(address) = token_address(&challenge, &reference.repository) else {
        return Err(unexpected(&url, format!("it demands {challenge:?}")));
    };
    let answer = downloads.text(address.as_str()).await?;
    let answer: Option<Answer> = serde_json::from_str(&answer).ok();
    let token = answer.and_then(|answer| answer.token.or(answer.access_token));
    let value = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let mut value = value.ok_or_else(|| unexpected(address.as_str(), "it has no token".into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Where the token is that a registry demands.
fn token_address(challenge: &str, repository: &str) -> Option<Url> {
    let challenges = http_auth::parse_challenges(challenge).ok()?;
    let bearer = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"))?;
    let parameter = |name: &str| {
        let found = bearer.params.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let mut address = Url::parse(&parameter("realm")?).ok()?;
    let service = parameter("service").map(|service| ("service", service));
    address.query_pairs_mut().extend_pairs(service).append_pair("scope", &format!("repository:{repository}:pull"));
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::token_address;

    #[test]
    fn tokens_are_where_the_challenge_says() {
        let scope = "scope=repository%3Alab%2Ftool%3Apull";
        for (case, challenge, expected) in [
            (
                "with a service",
                r#"Bearer realm="https://r.example/auth",service="r.example""#,
                Some("https://r.example/auth?service=r.example&"),
            ),
            (
                "with a scope of its own",
                r#"bearer realm="https://r.example/token",service="r",scope="repository:user/image:pull""#,
                Some("https://r.example/token?service=r&"),
            ),
            ("with nothing else", r#"Bearer realm="https://r.example/token""#, Some("https://r.example/token?")),
            ("after another", r#"Basic realm="r", Bearer realm="https://r.example/token""#, Some("https://r.example/token?")),
            ("another alone", r#"Basic realm="r""#, None),
            ("without an address", r#"Bearer service="r""#, None),
            ("no address", r#"Bearer realm="r""#, None),
            ("no challenge", "<html>", None),
        ] {
            let address = token_address(challenge, "lab/tool").map(String::from);
            assert_eq!(address, expected.map(|expected| format!("{expected}{scope}")), "{case}");
        }
    }
}
