package pdp

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// limits bound a request; maxItems the evaluations of one.
var limits = canon.Limits{Bytes: 256 << 10, Depth: 16, Members: 16384, NameBytes: 256}

const (
	maxItems = 200
	maxText  = 512 // of an identifier, in bytes
)

var (
	errMethod  = problem.New(problem.Invalid, "method_not_allowed", "This is for POST.")
	errNowhere = problem.New(problem.NotFound, "not_found", "There is nothing at this address. The metadata names what there is.")
	errBody    = problem.New(problem.Invalid, "invalid_request", "The body is one JSON object, as application/json.")
)

// object is a JSON object whose members were not read yet. Names are as they are: no
// other spelling stands for one.
type object map[string]json.RawMessage

// read takes the body of a request.
func read(r *http.Request) (object, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, errBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, int64(limits.Bytes)))
	if err != nil {
		return nil, errBody.Because(err)
	}
	return parse(body)
}

// parse reads one object of which every reader makes the same thing.
func parse(body []byte) (object, error) {
	plain, err := canon.Strict(body, limits)
	if err != nil {
		return nil, errBody.Because(err)
	}
	var o object
	if err := json.Unmarshal(plain, &o); err != nil || o == nil {
		return nil, errBody
	}
	return o, nil
}

func wrong(what string) error {
	return problem.New(problem.Invalid, "invalid_request", what)
}

// member reads a member that is an object; none is nil.
func (o object) member(name string) (object, error) {
	raw, ok := o[name]
	if !ok {
		return nil, nil
	}
	var out object
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return nil, wrong(name + " is an object.")
	}
	return out, nil
}

// text reads a member that is a string, at path.
func (o object) text(path, name string, needed bool) (string, error) {
	raw, ok := o[name]
	if !ok && !needed {
		return "", nil
	}
	var s *string
	if !ok || len(raw) > 6*maxText+2 || json.Unmarshal(raw, &s) != nil || s == nil || *s == "" || len(*s) > maxText || strings.Contains(*s, "\x00") {
		return "", wrong(path + name + " is a string of 1 to " + strconv.Itoa(maxText) + " bytes, none of them NUL.")
	}
	return *s, nil
}

// question is one question: may the subject do the action on the resource.
type question struct {
	subjectType, subject string
	action               string
	kind, id             string         // of the resource
	owner                string         // its owner, by the subject that tokens name
	ownerName            string         // or by user name or proved address
	said                 map[string]any // the properties of the resource, for attribute.Types.Take
	token                string         // that the request came with, "" if none is shown
}

// part is one of the members of which a question is made, read.
type part struct {
	object            // nil: there is none
	err        error  // it is none
	properties object // nil: it has none
	said       map[string]any
	wrong      error // its properties are no object
}

// part reads subject, action, resource or context.
func (o object) part(name string) (p part) {
	if p.object, p.err = o.member(name); p.err != nil || name == "context" {
		return p
	}
	if p.properties, p.wrong = p.member("properties"); p.properties != nil && name == "resource" {
		p.said, p.wrong = attribute.Read(p.object["properties"])
	}
	return p
}

// ask reads a question of its parts. Search for actions has none.
func ask(of func(name string) part, search bool) (q question, err error) {
	parts := map[string]part{}
	for _, name := range [...]string{"subject", "action", "resource", "context"} {
		p := of(name)
		if p.err != nil {
			return question{}, p.err
		}
		if p.object == nil && name != "context" && (name != "action" || !search) {
			return question{}, wrong(name + " is missing.")
		}
		parts[name] = p
	}
	take := func(to *string, from object, path, name string, needed bool) {
		if err == nil {
			*to, err = from.text(path, name, needed)
		}
	}
	subject, action, on := parts["subject"], parts["action"], parts["resource"]
	take(&q.subjectType, subject.object, "subject.", "type", true)
	take(&q.subject, subject.object, "subject.", "id", true)
	if !search {
		take(&q.action, action.object, "action.", "name", true)
	}
	take(&q.kind, on.object, "resource.", "type", true)
	take(&q.id, on.object, "resource.", "id", true)
	if err == nil {
		q.said, err = on.said, on.wrong
	}
	take(&q.owner, on.properties, "properties.", "owner", false)
	take(&q.ownerName, on.properties, "properties.", "ownerID", false)
	if err == nil {
		q.token, err = shown(parts["context"].object)
	}
	if err = cmp.Or(err, subject.wrong, action.wrong); err != nil { // of these nothing is taken, and they are objects
		return question{}, err
	}
	return q, nil
}

// shown reads the access token that the request at the resource server came with.
func shown(context object) (string, error) {
	raw, ok := context["access_token"]
	if !ok {
		return "", nil
	}
	var s *string
	if len(raw) > jose.MaxToken+2 || json.Unmarshal(raw, &s) != nil || s == nil || *s == "" { // no letter of one is written in another way
		return "", wrong("context.access_token is an access token.")
	}
	return *s, nil
}

// asking authenticates a caller before anything of its request is looked at.
func (s *Server) asking(h func(http.ResponseWriter, *http.Request, Caller, object) error) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		c, err := s.Authenticate(r)
		if err != nil {
			return err
		}
		o, err := read(r)
		if err != nil {
			return err
		}
		return h(w, r, c, o)
	}
}

// Render writes an error as AuthZEN has it (1.0, Error Responses): a status and a string,
// which begins with the error's stable name. It is about the resource server and its
// request: that somebody may not do something is an answer.
func (s *Server) Render(w http.ResponseWriter, r *http.Request, err error) {
	status, code, words, ref := s.failure(w, r, err)
	web.Text(w, status, code+": "+words+" Reference: "+ref)
}

// renderBundle writes an error of the bundles, which are ours, as an object.
func (s *Server) renderBundle(w http.ResponseWriter, r *http.Request, err error) {
	status, code, words, ref := s.failure(w, r, err)
	if werr := web.JSON(w, status, map[string]string{"error": code, "error_description": words, "ref": ref}); werr != nil {
		s.Log.Error("render an error", "err", werr)
	}
}

// failure is what an error says, and puts into the header what goes with its status.
func (s *Server) failure(w http.ResponseWriter, r *http.Request, err error) (status int, code, words, ref string) {
	status, ref = web.StatusOf(err), web.RecordOf(r).Ref()
	code, words = "server_error", "Something failed in the server."
	if p := problem.From(err); p != nil {
		code, words = p.Code, p.Detail
	}
	h := w.Header()
	switch {
	case errors.Is(err, errMethod):
		status = http.StatusMethodNotAllowed
	case status == http.StatusUnauthorized:
		h.Add("WWW-Authenticate", `DPoP algs="`+strings.Join(jose.DPoPAlgorithms, " ")+`"`)
		h.Add("WWW-Authenticate", `Basic realm="`+s.Issuer+`", charset="UTF-8"`)
	case status == http.StatusServiceUnavailable && h.Get("Retry-After") == "":
		h.Set("Retry-After", "1")
	}
	h.Set(web.RefHeader, ref)
	return status, code, words, ref
}
