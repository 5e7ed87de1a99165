package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

// home is where somebody starts who is signed in: at the current job, or else at the form. The other jobs that run are
// listed below.
func (s *Server) home(c echo.Context) error {
	var props views.StartPageProps
	task, err := s.jobs.CurrentTask(c.Request().Context(), currentUser(c))
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
		id, err := s.jobs.Start(ctx, currentUser(c), jobs.NewTask{
			SourceID: form.Source, TargetID: form.Target, Schemas: chosenSchemas(form), Verify: chosenVerify(form), Clean: confirmed, EndBlockers: form.Preview.End, Fork: form.Fork,
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
		form.Schemas.Schemas = append(form.Schemas.Schemas, views.SchemaOption{SchemaInfo: report.SchemaInfo{Name: name}, On: true})
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
		c, err = s.jobs.Database(ctx, u, id)
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
	p, err := s.previewClean(c, target.Place(), chosenSchemas(*form), &form.Preview)
	if err != nil {
		return nil, err
	}
	confirmed := confirm(c, p, &form.Preview)
	if confirmed == nil {
		form.Errors["confirm"] = cmp.Or(form.Preview.Error, "drop.unread")
	}
	return confirmed, nil
}

// confirm returns what the answer to an earlier preview agrees to have dropped of what is there now, or nil.
func confirm(c echo.Context, now jobs.CleanPreview, shown *views.CleanPreviewProps) *report.Confirmation {
	shown.Typed, shown.End = c.FormValue("confirm"), c.FormValue("end") == "yes"
	if !shown.Ready { // it says why
		return nil
	}
	confirmed, err := now.Confirm(shown.Typed, c.FormValue("shown"))
	switch {
	case errors.Is(err, jobs.ErrWrongName):
		shown.Error = "form.error.confirm"
	case err != nil:
		shown.Typed, shown.Error = "", "form.error.changed"
	}
	return confirmed
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
	running, err := s.jobs.RunningTasks(ctx, currentUser(c))
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
	connections, err := s.jobs.Databases(c.Request().Context(), u)
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
	found, err := s.jobs.Schemas(c.Request().Context(), currentUser(c), from)
	if errors.Is(err, jobs.ErrNotFound) {
		return choice, nil // nothing chosen yet
	}
	if choice.Reasons, err = whyNot(c, err, "form.error.unread"); err != nil || len(choice.Reasons) > 0 {
		return choice, err
	}
	before := chosenNames(choice.Schemas)
	choice.Read, choice.Schemas = true, nil
	for _, sc := range found {
		choice.Schemas = append(choice.Schemas, views.SchemaOption{SchemaInfo: sc, On: slices.Contains(before, sc.Name)})
	}
	return choice, nil
}

// showClean draws what clean would drop alone.
func (s *Server) showClean(c echo.Context) error {
	form := parseCloneForm(c.QueryParams())
	var preview views.CleanPreviewProps
	target, err := s.jobs.Database(c.Request().Context(), currentUser(c), form.Target)
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

// showCheck draws what stands in the way of the clone that the form describes. It only reads, on both sides.
func (s *Server) showCheck(c echo.Context) error {
	form := parseCloneForm(c.QueryParams())
	p := views.CloneCheckProps{Asked: true}
	var err error
	p.Found, err = s.jobs.Preflight(c.Request().Context(), currentUser(c), jobs.NewTask{
		SourceID: form.Source, TargetID: form.Target, Schemas: chosenSchemas(form),
	}, form.Clean)
	if reasons, err := whyNot(c, err, "form.check.unread"); err != nil || len(reasons) > 0 {
		if err != nil {
			return err
		}
		p.Found.Reasons = reasons
	}
	return s.render(c, http.StatusOK, views.CloneCheck(p))
}

// previewClean looks at what clean would drop from a target, and fills in what a page shows of it.
func (s *Server) previewClean(c echo.Context, target jobs.Place, schemas []string, props *views.CleanPreviewProps) (jobs.CleanPreview, error) {
	p, err := s.jobs.PreviewClean(c.Request().Context(), currentUser(c), target.ConnectionID, schemas)
	return p, fillPreview(c, props, target, schemas, p, err)
}

// fillPreview fills in what clean would drop from a target, or why nobody knows.
func fillPreview(c echo.Context, props *views.CleanPreviewProps, target jobs.Place, schemas []string, p jobs.CleanPreview, err error) error {
	props.Place, props.Schemas = viewPlace(target), schemas
	if props.Reasons, err = whyNot(c, err, "drop.unread"); err != nil || len(props.Reasons) > 0 {
		return err
	}
	props.Ready, props.CleanPreview = true, p.CleanPreview
	return nil
}

// unansweredTexts say why a database has not answered. A fault has a text of the page that asks.
var unansweredTexts = map[jobs.UnansweredCode]string{
	jobs.TooManyTests: "databases.test.busy", jobs.TooOften: "databases.test.often",
	jobs.UnusableURL: "databases.url.unusable", jobs.Slow: "databases.test.slow",
}

// whyUnanswered is what stands beside the text: what is wrong with the URL, or what the database has said.
func whyUnanswered(e *jobs.UnansweredError) string {
	switch e.Code {
	case jobs.UnusableURL:
		return e.Err.Error() + "."
	case jobs.Fault:
		return e.Err.Error()
	case jobs.TooManyTests, jobs.TooOften, jobs.Slow:
	}
	return ""
}

// whyNot tells a page, which keeps what was typed there, why a saved database has not answered. What is a fault of this server
// is returned; fault is the text for one of the database.
func whyNot(c echo.Context, err error, fault string) ([]report.Reason, error) {
	var refused *report.RefusedError
	var unanswered *jobs.UnansweredError
	var reason report.Reason
	_, text := createError(err)
	switch {
	case text != "":
	case errors.As(err, &refused):
		return refused.Reasons, nil
	case errors.As(err, &unanswered):
		text = cmp.Or(unansweredTexts[unanswered.Code], fault)
		reason.Hint = report.Said(whyUnanswered(unanswered))
	default:
		return nil, err
	}
	reason.Text = report.T(text)
	return []report.Reason{reason}, nil
}
