package viewstest

import (
	"calco/cloner/report"
	"calco/views"
)

// NamedForm is the form in one state.
type NamedForm struct {
	Name string
	Form views.CloneForm
}

// Forms are the form in its states.
func Forms() []NamedForm {
	schemas := form()
	schemas.Source, schemas.Target = 1, 2
	schemas.Schemas = views.SchemaChoiceProps{Chosen: true, Read: true, Schemas: []views.SchemaOption{
		{SchemaInfo: report.SchemaInfo{Name: "public", Tables: 88, Bytes: 1_042_000_000}, On: true},
		{SchemaInfo: report.SchemaInfo{Name: "billing", Tables: 14, Bytes: 61_000_000}, On: true},
		{SchemaInfo: report.SchemaInfo{Name: "archive", Tables: 5, Bytes: 18_400_000_000}},
		{SchemaInfo: report.SchemaInfo{Name: "empty", Tables: 1, Bytes: 0}},
	}}

	clean := schemas
	clean.Clean, clean.Schemas = true, views.SchemaChoiceProps{}
	clean.Preview = preview(staging)

	errors := clean
	errors.Errors = views.Errors{"": "form.error.changed", "source": "form.error.same", "target": "form.error.busy"}
	errors.Schemas = views.SchemaChoiceProps{Chosen: true, Error: "form.error.schemas", Reasons: []report.Reason{
		{Code: report.ReasonCredentials, Side: report.Source, Text: report.Said("The server does not let the user reader in."), Hint: report.Said("Check the password of this database.")},
	}}
	errors.Preview.Typed, errors.Preview.Error = "shpo", "form.error.confirm"

	unread := form()
	unread.Schemas.Chosen = true
	return []NamedForm{{"schemas", schemas}, {"unread", unread}, {"clean", clean}, {"errors", errors}, {"hostile", hostileForm()}}
}

func form() views.CloneForm {
	return views.CloneForm{Databases: []views.CloneDatabase{
		{ID: 1, Name: "production", Environment: "production", Address: "db.example.com:5432", Database: "shop", Protected: true},
		{ID: 2, Name: "staging", Environment: "staging", Address: "staging.example.com:5432", Database: "shop"},
		{ID: 3, Name: "Ben's laptop", Environment: "development", Address: "10.0.4.17:5433", Database: "shop_dev", Owner: "ben@example.com"},
	}}
}

func preview(p views.ClonePlace) views.CleanPreviewProps {
	return views.CleanPreviewProps{
		Ready: true, Place: p, CleanPreview: report.CleanPreview{Database: p.Database, Objects: 131, Tables: 88, Rows: 7_400_000, Bytes: 618_000_000, LargeObjects: 4, Names: []string{
			"table public.customers", "table public.events", "table public.measurements", "table public.order_items", "table public.orders",
			"view public.active_customers", "function public.nearest(geometry, integer)", "type public.order_state", "sequence public.tickets",
		}},
	}
}

// NamedRetry is the confirmation of a retry in one state.
type NamedRetry struct {
	Name  string
	Props views.RetryPageProps
}

// Retries are the confirmation in its states.
func Retries() []NamedRetry {
	retry := views.RetryPageProps{ID: "k3f9wd2mpa", Source: production, Target: staging, Preview: preview(staging)}
	restart := retry
	restart.Running, restart.Schemas = true, []string{"public", "billing"}
	restart.Preview = views.CleanPreviewProps{}
	nothing := retry
	nothing.Target = laptop
	nothing.Preview = views.CleanPreviewProps{Ready: true, Place: laptop, CleanPreview: report.CleanPreview{Database: laptop.Database}}
	waiting := retry
	waiting.Waiting = true
	blocked := retry
	blocked.Error = "form.error.busy"
	blocked.Preview = views.CleanPreviewProps{Reasons: []report.Reason{
		{Code: report.ReasonHost, Side: report.Target, Text: report.Said("No server answers at staging.example.com:5432."), Hint: report.Said("Check the address, and whether the server is up.")},
	}}
	return []NamedRetry{{"retry", retry}, {"retry-restart", restart}, {"retry-nothing", nothing}, {"retry-waiting", waiting}, {"retry-blocked", blocked}}
}
