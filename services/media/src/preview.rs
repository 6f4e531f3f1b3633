//! Link previews, fetched by a worker that reaches no private address.
