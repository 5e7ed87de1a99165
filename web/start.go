package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

// home is where somebody starts who is signed in: at the current job, or else at the form. The other jobs that run are
// listed below.
func (s *Server) home(c echo.Context) error {
	var props views.StartPageProps
	task, err := s.tasks.CurrentTask(c.Request().Context(), currentUser(c).ID)
	switch {
	case err == nil:
		panel, err := s.clonePanel(c, task)
		if err != nil {
			return err
		}
		if !task.Status.Ended() {
			panel.Notice = "clone.reconnected"
		}
		props.Current = &panel
	case errors.Is(err, jobs.ErrNotFound):
		form := parseCloneForm(c.QueryParams())
		props.Form = &form
	default:
		return err
	}
	return s.drawStart(c, http.StatusOK, props)
}

// showNewClone is the form, whatever else runs. The query may fill it in.
func (s *Server) showNewClone(c echo.Context) error {
	form := parseCloneForm(c.QueryParams())
	return s.drawStart(c, http.StatusOK, views.StartPageProps{Form: &form})
}

// startClone starts a clone, or says in the form what is missing.
func (s *Server) startClone(c echo.Context) error {
	ctx := c.Request().Context()
	values, err := c.FormParams()
	if err != nil {
		return errInvalid
	}
	form := parseCloneForm(values)
	if values.Get("do") == "schemas" {
		return s.drawStart(c, http.StatusOK, views.StartPageProps{Form: &form})
	}
	confirmed, err := s.checkCloneForm(c, &form)
	if err != nil {
		return err
	}
	if len(form.Errors) == 0 {
		id, err := s.tasks.CreateTask(ctx, jobs.NewTask{
			User: currentUser(c), SourceID: form.Source, TargetID: form.Target, Schemas: chosenSchemas(form), Verify: chosenVerify(form), Clean: confirmed, EndBlockers: form.Preview.End, Fork: form.Fork,
		})
		if err == nil {
			return s.redirect(c, clonePath(id), "")
		}
		field, text := createError(err)
		if text == "" {
			return err
		}
		form.Errors[field] = text
		form.AskFork = form.AskFork || errors.Is(err, jobs.ErrFork)
	}
	return s.drawStart(c, http.StatusUnprocessableEntity, views.StartPageProps{Form: &form})
}

// parseCloneForm reads what was typed.
func parseCloneForm(values url.Values) views.CloneForm {
	form := views.CloneForm{
		Source: parseID(values.Get("source")), Target: parseID(values.Get("target")), // 0: nothing chosen
		Clean: values.Get("clean") == "yes", EveryRow: values.Get("verify") == string(report.VerifyContents), Errors: views.Errors{},
	}
	form.Schemas.Chosen = values.Get("scope") == "chosen"
	for _, name := range values["schema"] {
		form.Schemas.Schemas = append(form.Schemas.Schemas, views.SchemaOption{Name: name, On: true})
	}
	form.Preview.Typed, form.Preview.End = values.Get("confirm"), values.Get("end") == "yes"
	form.Fork = values.Get("fork") == "yes"
	form.AskFork = form.Fork
	return form
}

// formLike are the values of the form filled in like a job, without clean: whoever wants that says so each time.
func formLike(t jobs.Task) url.Values {
	values := url.Values{
		"source": {strconv.FormatInt(t.Source.ConnectionID, 10)}, "target": {strconv.FormatInt(t.Target.ConnectionID, 10)},
	}
	if len(t.Schemas) > 0 {
		values["scope"], values["schema"] = []string{"chosen"}, t.Schemas
	}
	if t.Verify == report.VerifyContents {
		values.Set("verify", string(t.Verify))
	}
	return values
}

// chosenVerify is how much of what rows hold is to be compared.
func chosenVerify(form views.CloneForm) report.Verify {
	if form.EveryRow {
		return report.VerifyContents
	}
	return report.VerifySample
}

// chosenSchemas are none for the whole database.
func chosenSchemas(form views.CloneForm) []string {
	if !form.Schemas.Chosen {
		return nil
	}
	return chosenNames(form.Schemas.Schemas)
}

func chosenNames(schemas []views.SchemaOption) []string {
	var names []string
	for _, o := range schemas {
		if o.On {
			names = append(names, o.Name)
		}
	}
	return names
}

// checkCloneForm adds what is missing to the form's errors. With clean, it looks again at what that would drop, and returns
// it once it was confirmed.
func (s *Server) checkCloneForm(c echo.Context, form *views.CloneForm) (*report.Confirmation, error) {
	ctx, u := c.Request().Context(), currentUser(c)
	chosen := func(field string, id int64) (c jobs.Connection, err error) {
		if id == 0 {
			form.Errors[field] = "form.error." + field
			return c, nil
		}
		c, err = s.connections.Connection(ctx, u, id)
		if errors.Is(err, jobs.ErrNotFound) {
			form.Errors[field] = "form.error.gone"
			return c, nil
		}
		return c, err
	}
	if _, err := chosen("source", form.Source); err != nil {
		return nil, err
	}
	target, err := chosen("target", form.Target)
	if err != nil {
		return nil, err
	}
	if form.Schemas.Chosen && len(chosenSchemas(*form)) == 0 {
		form.Errors["schemas"] = "form.error.schemas"
	}
	if !form.Clean || form.Errors["target"] != "" {
		return nil, nil //nolint:nilnil // there is nothing to confirm
	}
	now, err := s.previewClean(c, target.Place(), chosenSchemas(*form), &form.Preview)
	if err == nil && !confirms(c, &form.Preview) {
		form.Errors["confirm"] = cmp.Or(form.Preview.Error, "drop.unread")
	}
	return now, err
}

// confirms tells whether the answer to an earlier preview confirms this one too.
func confirms(c echo.Context, p *views.CleanPreviewProps) bool {
	p.Typed, p.End = c.FormValue("confirm"), c.FormValue("end") == "yes"
	switch {
	case !p.Ready: // it says why
	case p.Typed != p.Database:
		p.Error = "form.error.confirm"
	case p.Shown != c.FormValue("shown"):
		p.Typed, p.Error = "", "form.error.changed"
	default:
		return true
	}
	return false
}

// createErrors are the fields that the reasons not to make a job belong to, and their texts.
var createErrors = []struct {
	err         error
	field, text string
}{
	{jobs.ErrSameConnection, "target", "form.error.same"},
	{jobs.ErrProtected, "target", "form.error.protected"},
	{jobs.ErrFork, "target", "form.error.fork"},
	{jobs.ErrTargetBusy, "target", "form.error.busy"},
	{jobs.ErrIsSource, "target", "form.error.reading"},
	{jobs.ErrIsTarget, "source", "form.error.writing"},
	{jobs.ErrMoved, "", "form.error.moved"},
	{jobs.ErrNotFound, "", "form.error.gone"},
}

// createError tells a person why a job was not made. A fault has no text.
func createError(err error) (field, text string) {
	for _, e := range createErrors {
		if errors.Is(err, e.err) {
			return e.field, e.text
		}
	}
	return "", ""
}

// drawStart fills in the choices of the form and the jobs that run.
func (s *Server) drawStart(c echo.Context, status int, props views.StartPageProps) error {
	ctx := c.Request().Context()
	if props.Form != nil {
		if err := s.fillCloneForm(c, props.Form); err != nil {
			return err
		}
	}
	running, err := s.tasks.RunningTasks(ctx)
	if err != nil {
		return err
	}
	for _, t := range running {
		if props.Current == nil || t.ID != props.Current.Clone.ID {
			props.Running = append(props.Running, viewRow(t))
		}
	}
	return s.render(c, status, views.StartPage(s.page(c, "layout.clones"), props))
}

// fillCloneForm fills in what can be chosen. The databases themselves are asked only where the form says so: for their
// schemas, and for what clean would drop.
func (s *Server) fillCloneForm(c echo.Context, form *views.CloneForm) error {
	u := currentUser(c)
	connections, err := s.connections.Connections(c.Request().Context(), u)
	if err != nil {
		return err
	}
	for _, d := range connections {
		option := views.CloneDatabase{ID: d.ID, Name: d.Name, Environment: string(d.Environment), Address: d.Address, Database: d.Database, Protected: d.Protected}
		if d.OwnerID != u.ID {
			option.Owner = d.Owner
		}
		form.Databases = append(form.Databases, option)
	}
	if form.Schemas.Chosen {
		if form.Schemas, err = s.schemaChoice(c, form.Source, form.Schemas); err != nil {
			return err
		}
		form.Schemas.Error = form.Errors["schemas"]
	}
	i := slices.IndexFunc(connections, func(d jobs.Connection) bool { return d.ID == form.Target })
	if form.Clean && i >= 0 && !form.Preview.Ready && len(form.Preview.Reasons) == 0 {
		if _, err = s.previewClean(c, connections[i].Place(), chosenSchemas(*form), &form.Preview); err != nil {
			return err
		}
	}
	return nil
}

// showSchemas draws the choice of schemas alone.
func (s *Server) showSchemas(c echo.Context) error {
	form := parseCloneForm(c.QueryParams())
	choice, err := s.schemaChoice(c, form.Source, form.Schemas)
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.SchemaChoice(choice))
}

// schemaChoice reads the schemas of a source. Those that were chosen before stay so.
func (s *Server) schemaChoice(c echo.Context, from int64, choice views.SchemaChoiceProps) (views.SchemaChoiceProps, error) {
	source, err := s.connections.Connection(c.Request().Context(), currentUser(c), from)
	if errors.Is(err, jobs.ErrNotFound) {
		return choice, nil // nothing chosen yet
	}
	if err != nil {
		return choice, err
	}
	var found report.Inspection
	choice.Reasons, err = s.look(c, source.ID, "form.error.unread", func(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (err error) {
		found, err = cloner.Inspect(ctx, u, hosts)
		return err
	})
	if err != nil || len(choice.Reasons) > 0 {
		return choice, err
	}
	before := chosenNames(choice.Schemas)
	choice.Read, choice.Schemas = true, nil
	for _, sc := range found.Schemas {
		choice.Schemas = append(choice.Schemas, views.SchemaOption{Name: sc.Name, Tables: sc.Tables, Bytes: sc.Bytes, On: slices.Contains(before, sc.Name)})
	}
	return choice, nil
}

// showClean draws what clean would drop alone.
func (s *Server) showClean(c echo.Context) error {
	form := parseCloneForm(c.QueryParams())
	var preview views.CleanPreviewProps
	target, err := s.connections.Connection(c.Request().Context(), currentUser(c), form.Target)
	switch {
	case errors.Is(err, jobs.ErrNotFound), err == nil && !form.Clean:
	case err != nil:
		return err
	default:
		if _, err = s.previewClean(c, target.Place(), chosenSchemas(form), &preview); err != nil {
			return err
		}
		preview.Typed, preview.End = form.Preview.Typed, form.Preview.End
	}
	return s.render(c, http.StatusOK, views.CleanPreview(preview))
}

// previewClean looks at what clean would drop from a target. Without reasons against it, it returns what its user can
// confirm.
func (s *Server) previewClean(c echo.Context, target jobs.Place, schemas []string, props *views.CleanPreviewProps) (*report.Confirmation, error) {
	props.Place, props.Database, props.Schemas = viewPlace(target), target.Database, schemas
	var p report.CleanPreview
	var err error
	props.Reasons, err = s.look(c, target.ConnectionID, "drop.unread", func(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (err error) {
		p, err = cloner.PreviewClean(ctx, cloner.Spec{Target: u, TargetHosts: hosts, Schemas: schemas, Clean: true})
		return err
	})
	if err != nil || len(props.Reasons) > 0 {
		return nil, err
	}
	props.Ready, props.Shown = true, p.Confirmation.Digest()
	props.Objects, props.Tables, props.Rows, props.Bytes, props.LargeObjects = p.Objects, p.Tables, p.Rows, p.Bytes, p.LargeObjects
	props.Names = p.Names
	return &p.Confirmation, nil
}

// look asks a saved database something for a page, as often and as long as a test may. That it does not answer is for the
// page too, which keeps what was typed there; fault is the text for what has no reason of its own.
func (s *Server) look(c echo.Context, id int64, fault string, ask func(context.Context, dsn.URL, *dsn.Hosts) error) ([]views.CloneReason, error) {
	request := c.Request().Context()
	reason := func(text string) []views.CloneReason { return []views.CloneReason{{Text: views.T(request, text)}} }
	end, problem := s.testers.begin(currentUser(c).ID)
	if problem != "" {
		return reason(problem), nil
	}
	defer end()
	u, hosts, err := s.connections.ConnectionURL(request, id)
	if errors.Is(err, jobs.ErrNotFound) {
		return reason("form.error.gone"), nil
	}
	if err != nil {
		return nil, err
	}
	if err := u.CheckRemote(hosts); err != nil { // it was saved before such URLs were refused
		return []views.CloneReason{{Text: views.T(request, "databases.url.unusable"), Hint: err.Error() + "."}}, nil
	}
	ctx, cancel := context.WithTimeout(request, testPatience)
	defer cancel()
	err = ask(ctx, u, hosts)
	var refused *report.RefusedError
	switch {
	case errors.As(err, &refused):
		return viewReasons(refused.Reasons), nil
	case err != nil && request.Err() != nil: // whoever asked has gone
		return nil, err
	case err != nil && ctx.Err() != nil:
		return reason("databases.test.slow"), nil
	case err != nil:
		return []views.CloneReason{{Text: views.T(request, fault), Hint: err.Error()}}, nil
	}
	return nil, nil
}
