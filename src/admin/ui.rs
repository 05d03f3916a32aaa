//! The admin UI's files (ui/), as they were built into the program: static, and without a token, since they hold nothing; the
//! API that the page calls asks for one. Nothing else falls back to them.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{web, HttpRequest, HttpResponse, Resource};
use rust_embed::RustEmbed;

use super::operation::{method_not_allowed, Errors};

/// With a `.gz` beside those that are not small.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/ui"]
struct Files;

const HOME: &str = "/ui/";
const INDEX: &str = "index.html";
/// Files whose names have a hash in them.
const FOR_GOOD: &str = "assets/";

/// What the page may do. Its console connects to the listeners of clients, which are elsewhere.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'self'; object-src 'none'";

pub fn routes(app: &mut web::ServiceConfig) {
    for path in ["/", "/ui"] {
        let resource = web::resource(path).route(web::get().to(to_the_page)).route(web::head().to(to_the_page));
        app.service(nothing_else(resource));
    }
    let files = web::resource("/ui/{file:.*}").route(web::get().to(file)).route(web::head().to(file));
    app.service(nothing_else(files));
}

/// Other methods are answered as elsewhere.
fn nothing_else(resource: Resource) -> Resource {
    resource.default_service(web::to(|request: HttpRequest| async move {
        method_not_allowed(&request, "GET, HEAD", Errors::Problems)
    }))
}

async fn to_the_page() -> HttpResponse {
    HttpResponse::Found().insert_header((header::LOCATION, HOME)).finish()
}

async fn file(request: HttpRequest, file: web::Path<String>) -> HttpResponse {
    let name = if file.is_empty() { INDEX } else { file.as_str() };
    let zipped = accepts_gzip(&request).then(|| Files::get(&format!("{name}.gz"))).flatten();
    let is_zipped = zipped.is_some();
    let Some(found) = zipped.or_else(|| Files::get(name)).filter(|_| !name.ends_with(".gz")) else {
        return missing(name);
    };
    let mut answer = HttpResponse::Ok();
    answer
        .content_type(media_type(name))
        .insert_header((header::VARY, "accept-encoding"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"));
    if is_zipped {
        answer.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    answer.insert_header((
        header::CACHE_CONTROL,
        if name.starts_with(FOR_GOOD) { "public, max-age=31536000, immutable" } else { "no-cache" },
    ));
    answer.body(found.data.into_owned())
}

fn missing(name: &str) -> HttpResponse {
    let why = match Files::get(INDEX) {
        None => "this program was built without the admin UI; ./run --build builds it with it\n",
        Some(_) if name == INDEX => "there is no such page\n",
        Some(_) => "there is no such file\n",
    };
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body(why)
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let all = request.headers().get_all(header::ACCEPT_ENCODING).filter_map(|value| HeaderValue::to_str(value).ok());
    all.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        is_gzip
            && !parts.any(|weight| weight.replace(' ', "").trim_start_matches("q=").trim_matches(['0', '.']).is_empty())
    })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |value: &str| {
            accepts_gzip(&TestRequest::default().insert_header((header::ACCEPT_ENCODING, value)).to_http_request())
        };
        assert!(takes("gzip, deflate, br") && takes("br;q=1, GZIP;q=0.8") && takes("*"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("gzip; q=0.0, identity") && !takes(""));
        assert!(!accepts_gzip(&TestRequest::default().to_http_request()));
    }
}
