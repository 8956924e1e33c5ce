package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// Codes of this surface; the last four have a status of their own.
const (
	codeToken    = "invalid_token"      // RFC 6750 section 3.1
	codeNoToken  = "token_missing"      // no token was sent: a challenge without an error
	codeProof    = "invalid_dpop_proof" // RFC 9449 section 7.1
	codeScope    = "insufficient_scope" // RFC 6750 section 3.1
	codeInvalid  = "request_invalid"
	codeMethod   = "method_not_allowed"     // 405
	codeTooLarge = "request_too_large"      // 413
	codeMatch    = "precondition_failed"    // 412
	codeNoMatch  = "precondition_required"  // 428
	codeMedia    = "media_type_unsupported" // 415
)

var statuses = map[string]int{
	codeMethod: http.StatusMethodNotAllowed, codeTooLarge: http.StatusRequestEntityTooLarge, codeMatch: http.StatusPreconditionFailed,
	codeNoMatch: http.StatusPreconditionRequired, codeMedia: http.StatusUnsupportedMediaType,
}

// Problem is an error as the API writes it (RFC 9457). Its type is about:blank:
// what tells one from another is code.
type Problem struct {
	Type   string  `json:"type" doc:"Always about:blank; the code says which problem it is" example:"about:blank"`
	Title  string  `json:"title" doc:"The words of the status" example:"Conflict"`
	Status int     `json:"status" example:"409"`
	Detail string  `json:"detail,omitempty" doc:"What went wrong, in a sentence"`
	Code   string  `json:"code" doc:"Stable name of the problem" example:"username_taken"`
	Hint   string  `json:"hint,omitempty" doc:"What to do next, for instance the command that mends it"`
	Ref    string  `json:"ref" doc:"Reference of this request, as in Countersign-Ref" example:"7F3A9C"`
	Review string  `json:"review,omitempty" doc:"The review in which an administrator looks at what was refused" example:"rvw_01K0Q8V1WJ4Z9S7Y3M2N5P6RTX"`
	Errors []Fault `json:"errors,omitempty" doc:"What is wrong with the request, member by member"`

	header http.Header
}

// Fault is one thing that is wrong with a request. It never echoes the value: it
// may be a secret.
type Fault struct {
	Location string `json:"location,omitempty" doc:"Where" example:"body.redirect_uris[0]"`
	Message  string `json:"message" doc:"What"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// document makes what the API answers to an error, and notes the error, with its
// private cause, in the request's record.
func (a *API) document(r *http.Request, err error) *Problem {
	rec := web.RecordOf(r)
	if code := problem.CodeOf(err); code != "" {
		rec.Add(slog.String("problem", code))
	}
	rec.Add(slog.String("error", err.Error()))
	var done *Problem
	if errors.As(err, &done) {
		return done
	}
	err = spent(err)
	doc := &Problem{Type: "about:blank", Ref: rec.Ref(), header: http.Header{"Cache-Control": {"no-store"}}}
	p := problem.From(err)
	if p == nil {
		doc.Status, doc.Code, doc.Detail = http.StatusInternalServerError, "internal", "Something went wrong on our side."
		doc.Hint = "If it goes on, tell whoever runs this server the reference " + doc.Ref + "."
	} else {
		doc.Status, doc.Code, doc.Detail, doc.Hint, doc.Review = web.StatusOf(p), p.Code, p.Detail, p.Hint, p.Review
		if s, ok := statuses[p.Code]; ok {
			doc.Status = s
		}
		if p.RetryAfter > 0 || doc.Status == http.StatusServiceUnavailable {
			doc.header.Set("Retry-After", strconv.Itoa(max(1, int(p.RetryAfter.Seconds()))))
		}
		if c := a.challenge(p); c != "" {
			doc.header.Set("WWW-Authenticate", c)
		}
	}
	doc.Title = http.StatusText(doc.Status)
	return doc
}

// spent turns what act says of single-use values into problems.
func spent(err error) error {
	var used *once.Used
	var gone *once.Gone
	switch {
	case errors.As(err, &used):
		return problem.New(problem.Conflict, "already_used", "That was used or withdrawn already.").Because(err)
	case errors.As(err, &gone):
		return problem.New(problem.NotFound, "not_found", "There is no such thing any more.").Because(err)
	}
	return err
}

// challenge is the WWW-Authenticate header of a problem: what a token would have
// to be (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9470 section 3,
// mechanisms A25), "" if no token would do.
func (a *API) challenge(p *problem.Error) string {
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+`="`+quotable(value)+`"`)
		}
	}
	c := p.Challenge
	switch {
	case p.Kind == problem.StepUp && c != nil:
		text := c.Public
		if text == "" {
			text = p.Detail
		}
		add("error", policy.CodeStepUp)
		add("error_description", text)
		add("acr_values", strings.Join(c.ACRValues, " "))
		if c.MaxAge > 0 {
			add("max_age", strconv.FormatInt(int64(c.MaxAge.Seconds()), 10))
		}
		add("scope", strings.Join(c.Scope, " "))
	case p.Code == codeScope && c != nil:
		add("error", codeScope)
		add("error_description", p.Detail)
		add("scope", strings.Join(c.Scope, " "))
	case p.Kind == problem.Unauthenticated:
		if p.Code != codeNoToken {
			add("error", p.Code)
			add("error_description", p.Detail)
		}
		add("algs", strings.Join(jose.DPoPAlgorithms, " "))
	default:
		return ""
	}
	add("resource_metadata", a.Issuer+metadataPath)
	return "DPoP " + strings.Join(params, ", ")
}

// quotable leaves of a text what may stand in a quoted parameter of a challenge
// (RFC 6750 section 3).
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return ' '
		}
		return r
	}, s)
}

// Render writes an error as the API does; it is a web.Renderer for what else is
// mounted below /v1.
func (a *API) Render(w http.ResponseWriter, r *http.Request, err error) {
	doc := a.document(r, err)
	h := w.Header()
	for name, values := range doc.header {
		h[name] = values
	}
	h.Set("Content-Type", "application/problem+json")
	if err := web.JSON(w, doc.Status, doc); err != nil {
		web.RecordOf(r).Add(slog.String("error", err.Error()))
	}
}

// strictJSON reads only documents of which every reader makes the same thing
// (mechanisms 0.3), and writes compact JSON.
var strictJSON = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		text, err := canon.Strict(data, canon.Limits{Bytes: MaxBody, Depth: 16, Members: 4096, NameBytes: 128})
		if err != nil {
			if p := problem.From(err); p != nil {
				return errors.New(p.Detail)
			}
			return err
		}
		return json.Unmarshal(text, v)
	},
}

// adoptHuma makes huma's own errors ours, and its validation as strict about the
// case of names as JSON is. Huma keeps both for the whole process.
var adoptHuma = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, text string, faults ...error) huma.StatusError {
		return fault(status, text, "", faults)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, text string, faults ...error) huma.StatusError {
		ref := ""
		if status != 0 {
			r, _ := humago.Unwrap(ctx)
			rec := web.RecordOf(r)
			ref = rec.Ref()
			rec.Add(slog.String("problem", text))
			if status >= http.StatusInternalServerError {
				rec.Add(slog.String("error", fmt.Sprint(faults)))
				faults = nil
			}
			ctx.SetHeader("Cache-Control", "no-store")
		}
		return fault(status, text, ref, faults)
	}
})

// fault is an error of huma's: the request is malformed.
func fault(status int, _, ref string, faults []error) *Problem {
	p := &Problem{Type: "about:blank", Code: codeInvalid, Ref: ref, Detail: "The request is not valid."}
	switch status {
	case http.StatusUnprocessableEntity:
		status = http.StatusBadRequest
	case http.StatusUnsupportedMediaType:
		p.Code, p.Detail = codeMedia, "The body must be application/json."
	case http.StatusRequestEntityTooLarge:
		p.Code, p.Detail = codeTooLarge, fmt.Sprintf("The body is longer than %d bytes.", MaxBody-1)
	case http.StatusInternalServerError:
		p.Code, p.Detail = "internal", "Something went wrong on our side."
	}
	p.Status, p.Title = status, http.StatusText(status)
	for _, e := range faults {
		if e == nil {
			continue
		}
		f := Fault{Message: e.Error()}
		var d huma.ErrorDetailer
		if errors.As(e, &d) {
			f.Message, f.Location = d.ErrorDetail().Message, d.ErrorDetail().Location
		}
		p.Errors = append(p.Errors, f)
	}
	return p
}
