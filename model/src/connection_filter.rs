//! Which connections a message is for, beyond user, group and endpoint: a condition over their descriptions, in the language
//! of custom routes and by its evaluator. Made by config's compile, asked by connections; imports expression.

use serde_json::Value;

use crate::expression::{CustomRoutes, CustomRoutesBuilder, Expression, RouteScratch};

/// A condition on connections.
#[derive(Debug)]
pub struct ConnectionFilter {
    /// As one route, which is taken or not.
    condition: CustomRoutes,
}

impl ConnectionFilter {
    /// Of a condition whose tests all look at the connection.
    pub fn new(condition: Expression) -> ConnectionFilter {
        let mut routes = CustomRoutesBuilder::new(None);
        routes.push_expression(condition, false);
        ConnectionFilter { condition: routes.build() }
    }

    /// Whether it holds for the connection with this description. `scratch` spares allocations when many are asked.
    pub fn holds(&self, description: &Value, scratch: &mut RouteScratch) -> bool {
        !self.condition.select(&Value::Null, description, scratch).is_empty()
    }
}
