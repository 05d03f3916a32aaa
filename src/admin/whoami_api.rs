//! Who is asking: for pages and programs that show only what their token may do.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;

use super::access::caller;
use super::operation::Operation;
use super::problem::Problem;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/whoami", || web::to(whoami), "whoami")
        .about("Who is asking", "The name, role and id of the token that the request shows.")
        .answers::<CallerBody>(200, "The caller")]
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Caller")]
struct CallerBody {
    /// The author of the changes that it makes.
    name: String,
    /// viewer, publisher, editor or admin.
    role: String,
    /// None: the setting admin.token, or nobody in particular where no token is asked for.
    token_id: Option<String>,
}

async fn whoami(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    Ok(HttpResponse::Ok().json(CallerBody {
        name: caller.name.to_string(),
        role: caller.role.to_string(),
        token_id: caller.token_id.as_deref().map(str::to_owned),
    }))
}
