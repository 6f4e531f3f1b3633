//! What Grafana reads of a dashboard.

use serde_json::{Value, json};

use super::{Dashboard, Form, Panel, Query, Unit};

/// A dashboard is so many columns wide.
const COLUMNS: usize = 24;
const ROW_HEIGHT: usize = 1;

/// Returns a dashboard as Grafana reads it.
pub fn document(dashboard: &Dashboard) -> Value {
    json!({
        "uid": format!("posthouse-{}", dashboard.name),
        "title": format!("Posthouse / {}", dashboard.title),
        "description": dashboard.about,
        "tags": ["posthouse"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "annotations": {"list": []},
        "links": [others()],
        "templating": {"list": variables()},
        "panels": panels(dashboard),
    })
}

/// Returns the menu of the other dashboards, which keep what is chosen here.
fn others() -> Value {
    json!({
        "type": "dashboards",
        "title": "Posthouse",
        "tags": ["posthouse"],
        "asDropdown": true,
        "includeVars": true,
        "keepTime": true,
        "targetBlank": false,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    })
}

/// Returns what is chosen above the panels. The tenants are those of the chosen cells: services do not know theirs, the operator does.
fn variables() -> Value {
    let values = |name: &str, label: &str, query: &str| {
        json!({
            "type": "query",
            "name": name,
            "label": label,
            "datasource": datasource(),
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": true,
            "includeAll": true,
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
            "options": [],
            "regex": "",
            "hide": 0,
        })
    };
    json!([
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Prometheus",
            "query": "prometheus",
            "refresh": 1,
            "multi": false,
            "includeAll": false,
            "current": {},
            "options": [],
            "regex": "",
            "hide": 0,
        },
        values("cell", "Cell", "label_values(posthouse_operator_tenant_ready, cell)"),
        values("tenant", "Tenant", "label_values(posthouse_operator_tenant_ready{cell=~\"$cell\"}, tenant)"),
    ])
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Returns the panels in their places: each row from left to right, as many lines as it takes.
fn panels(dashboard: &Dashboard) -> Vec<Value> {
    let mut placed = Vec::new();
    let mut top = 0;
    for row in &dashboard.rows {
        placed.push(json!({
            "type": "row",
            "id": placed.len() + 1,
            "title": row.title,
            "collapsed": false,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": ROW_HEIGHT},
            "panels": [],
        }));
        top += ROW_HEIGHT;
        let (mut left, mut height) = (0, 0);
        for panel in &row.panels {
            let (wide, high) = size(panel.form);
            if left + wide > COLUMNS {
                top += height;
                (left, height) = (0, 0);
            }
            placed.push(described(
                panel,
                placed.len() + 1,
                json!({"x": left, "y": top, "w": wide, "h": high}),
            ));
            left += wide;
            height = height.max(high);
        }
        top += height;
    }
    placed
}

/// Returns how many columns and lines a panel takes.
fn size(form: Form) -> (usize, usize) {
    match form {
        Form::Figure => (4, 4),
        Form::Lines | Form::Table => (8, 8),
    }
}

fn described(panel: &Panel, id: usize, place: Value) -> Value {
    let (kind, options, custom) = drawn(panel.form);
    let targets: Vec<_> =
        panel.queries.iter().zip('A'..).map(|(query, name)| target(panel.form, query, name)).collect();
    json!({
        "type": kind,
        "id": id,
        "title": panel.title,
        "description": panel.about,
        "gridPos": place,
        "datasource": datasource(),
        "fieldConfig": {"defaults": {"unit": unit(panel.unit), "custom": custom}, "overrides": []},
        "options": options,
        "targets": targets,
    })
}

/// Returns the type of a panel, its options, and those of its fields.
fn drawn(form: Form) -> (&'static str, Value, Value) {
    match form {
        Form::Figure => (
            "stat",
            json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "textMode": "auto",
            }),
            json!({}),
        ),
        Form::Lines => (
            "timeseries",
            json!({
                "legend": {"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            json!({"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}),
        ),
        Form::Table => ("table", json!({"showHeader": true, "cellHeight": "sm"}), json!({})),
    }
}

fn target(form: Form, query: &Query, name: char) -> Value {
    let is_range = form != Form::Table;
    json!({
        "refId": name.to_string(),
        "datasource": datasource(),
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": if query.legend.is_empty() { "__auto" } else { query.legend.as_str() },
        "format": if is_range { "time_series" } else { "table" },
        "range": is_range,
        "instant": !is_range,
        "exemplar": query.has_exemplars,
    })
}

/// Returns a unit by its name in Grafana.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Number => "short",
        Unit::PerSecond => "cps",
        Unit::Seconds => "s",
        Unit::Bytes => "bytes",
        Unit::Part => "percentunit",
    }
}
