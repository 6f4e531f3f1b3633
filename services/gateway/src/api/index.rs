//! The index of `/docs`: a row for each service of the tenant.

use std::fmt::Write as _;

use catalog::Service;

const TEMPLATE: &str = include_str!("index.html");
/// The line of the template that the rows replace.
const ROWS: &str = "  <!-- services -->\n";

/// The gateway has a protocol beside its HTTP side, and its own page for it.
const GATEWAY_LINKS: &str = "\n    Also as <a href=\"/docs/gateway/asyncapi.json\">AsyncAPI</a>; its <a \
     href=\"/docs/gateway\">HTTP side</a>.";

/// Returns the page of a tenant with these services, in the order of the catalog.
pub(crate) fn page(services: &[Service]) -> String {
    let rows: String =
        Service::ALL.iter().filter(|service| services.contains(service)).copied().map(row).collect();
    TEMPLATE.replace(ROWS, &rows)
}

/// Returns the row of a service. Its entry in the catalog holds no markup.
fn row(service: Service) -> String {
    let (link, more) = match service {
        Service::Gateway => ("/docs/gateway/protocol".to_owned(), GATEWAY_LINKS),
        _ => (format!("/docs/{service}"), ""),
    };
    let mut paths = String::new();
    for path in api_paths(service) {
        let separator = if paths.is_empty() { "" } else { ", " };
        write!(paths, "{separator}<code>{path}</code>").expect("a string takes all");
    }
    let about = service.about;
    format!("  <tr><td><a href=\"{link}\">{service}</a></td><td>{paths}</td><td>{about}{more}</td></tr>\n")
}

/// Returns the paths of a service's API; the documentation is not part of it.
fn api_paths(service: Service) -> impl Iterator<Item = &'static str> {
    let entry = service.entry();
    let paths = entry.path_prefixes.iter().chain(entry.paths).chain(entry.sticky_paths);
    paths.copied().filter(|path| !path.starts_with("/docs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_the_catalog_is_linked_with_its_paths() {
        let page = page(Service::ALL);
        for service in Service::ALL {
            assert!(page.contains(&format!("href=\"/docs/{service}\"")), "{service}");
            assert!(page.contains(service.about), "{service}");
            for path in api_paths(*service) {
                assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
            }
        }
        assert_eq!(page.matches("<tr><td>").count(), Service::ALL.len());
    }

    #[test]
    fn a_service_that_the_tenant_does_not_have_is_not_listed() {
        let page = page(&[Service::Search, Service::Gateway]);
        let at = |service: Service| page.find(&format!("href=\"/docs/{service}\""));
        assert!(at(Service::Gateway).is_some() && at(Service::Gateway) < at(Service::Search), "{page}");
        assert_eq!(page.matches("<tr><td>").count(), 2, "{page}");
        assert!(!page.contains("/api/media"), "{page}");
    }

    #[test]
    fn the_gateway_links_its_protocol() {
        for link in ["/docs/gateway/protocol", "/docs/gateway/asyncapi.json"] {
            assert!(page(Service::ALL).contains(&format!("href=\"{link}\"")), "{link}");
        }
    }

    #[test]
    fn the_catalog_holds_no_markup() {
        for service in Service::ALL {
            assert!(!service.about.contains(['<', '>', '&']), "{service}");
        }
    }
}
