package pdp_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// document is the document of the API, as it is served, and what of it was seen to be so.
type document struct {
	ops    map[string]operation // by method and path
	schema *jsonschema.Compiler
	at     map[string]bool // "METHOD path status" that was answered
}

type operation struct {
	RequestBody struct{ Content map[string]json.RawMessage }
	Responses   map[string]struct {
		Content map[string]json.RawMessage
		Headers map[string]json.RawMessage
	}
}

const documentURL = "https://id.example.com/v1/openapi.json"

func (p *place) document() *document {
	p.Helper()
	if p.doc != nil {
		return p.doc
	}
	resp, err := p.http.Get(p.issuer + "/v1/openapi.json")
	ok(p.TB, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ok(p.TB, err)
	var doc struct {
		Paths map[string]map[string]operation
	}
	ok(p.TB, json.Unmarshal(text, &doc))
	d := &document{ops: map[string]operation{}, schema: jsonschema.NewCompiler(), at: map[string]bool{}}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			d.ops[strings.ToUpper(method)+" "+path] = op
		}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	ok(p.TB, err)
	d.schema.DefaultDraft(jsonschema.Draft2020)
	ok(p.TB, d.schema.AddResource(documentURL, v))
	p.doc = d
	return d
}

// fits reports whether a JSON text is what the document says at a pointer.
func (d *document) fits(t testing.TB, text []byte, pointer ...string) error {
	t.Helper()
	at := documentURL + "#"
	for _, s := range pointer {
		at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
	}
	s, err := d.schema.Compile(at)
	ok(t, err)
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// documented holds a request and its answer against the document: what is answered with
// 200 is a request that it describes, and every answer is one of those that it describes.
func (p *place) documented(r *http.Request, sent []byte, g got) {
	p.Helper()
	d := p.document()
	op, there := d.ops[r.Method+" "+r.URL.Path]
	if !there {
		if strings.HasPrefix(r.URL.Path, "/access/") && g.status != http.StatusNotFound && g.status != http.StatusMethodNotAllowed {
			p.Errorf("%s %s is not in the document", r.Method, r.URL.Path)
		}
		return
	}
	d.at[r.Method+" "+r.URL.Path+" "+strconv.Itoa(g.status)] = true
	path, method := r.URL.Path, strings.ToLower(r.Method)
	if len(op.RequestBody.Content) > 0 {
		err := d.fits(p.TB, sent, "paths", path, method, "requestBody", "content", "application/json", "schema")
		if g.status == http.StatusOK && err != nil {
			p.Errorf("%s took what the document does not describe: %s: %v", path, sent, err)
		}
	}
	says, there := op.Responses[strconv.Itoa(g.status)]
	media, _, err := mime.ParseMediaType(g.header.Get("Content-Type"))
	ok(p.TB, err)
	text := []byte(g.text)
	if media == "text/plain" {
		text, err = json.Marshal(g.text)
		ok(p.TB, err)
	}
	if !there || says.Content[media] == nil {
		p.Errorf("%s %s: the document has no %d of %q", method, path, g.status, media)
		return
	}
	if err := d.fits(p.TB, text, "paths", path, method, "responses", strconv.Itoa(g.status), "content", media, "schema"); err != nil {
		p.Errorf("%s %s: %s is not what the document says: %v", method, path, g.text, err)
	}
	for name := range says.Headers {
		if g.header.Get(name) == "" {
			p.Errorf("%s %s: %d without %s", method, path, g.status, name)
		}
	}
}

// refuses makes sure that the document, too, describes no request that is refused for
// what it says.
func (p *place) refuses(t *testing.T) {
	d := p.document()
	for name, bodies := range map[string][]string{
		"/access/v1/evaluation": {
			`[]`, `{}`, `{"subject":{"type":"user","id":"a"},"action":{"name":"read"}}`, strings.Replace(reads, `"read"`, `5`, 1), strings.Replace(reads, `"id":"1"`, `"id":""`, 1),
			strings.Replace(reads, `{"type":"user","id":"alice@example.com"}`, `"alice"`, 1), strings.Replace(reads, `"id":"1"`, `"id":"`+strings.Repeat("x", 513)+`"`, 1),
			strings.Replace(reads, `"id":"1"`, `"id":"1","properties":[]`, 1), strings.Replace(reads, `"resource"`, `"context":{"access_token":""},"resource"`, 1),
		},
		"/access/v1/evaluations":   {`{"evaluations":{}}`, `{"options":{"evaluations_semantic":"any"},"evaluations":[{}]}`, `{"evaluations":[` + strings.Repeat("{},", 200) + `{}]}`},
		"/access/v1/search/action": {`{"subject":{"type":"user","id":"a"}}`, strings.Replace(reads, `"action"`, `"page":{"token":"x"},"action"`, 1)},
	} {
		for _, body := range bodies {
			if d.fits(t, []byte(body), "paths", name, "post", "requestBody", "content", "application/json", "schema") == nil {
				t.Errorf("the document describes %.80s", body)
			}
			if g := p.post("todo-api", name, body); g.status != http.StatusBadRequest {
				t.Errorf("%s: %d %.80s", name, g.status, body)
			}
		}
	}
	// What was asked of each in all of this.
	for _, at := range []string{
		"POST /access/v1/evaluation 200", "POST /access/v1/evaluation 400", "POST /access/v1/evaluation 401", "POST /access/v1/evaluations 200", "POST /access/v1/evaluations 400",
		"POST /access/v1/evaluations 401", "POST /access/v1/search/action 200", "POST /access/v1/search/action 400", "POST /access/v1/search/action 401", "GET /.well-known/authzen-configuration 200",
	} {
		if !d.at[at] {
			t.Errorf("never seen: %s", at)
		}
	}
}
