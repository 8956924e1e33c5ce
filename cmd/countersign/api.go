package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/clilogin"
)

// api is the server's JSON API, as the profile's person or, for policies, as a service.
type api struct {
	app     *app
	p       *clilogin.Profile
	service *http.Client // that acts as itself; nil: the person does
	base    string       // <issuer>/v1
}

func (a *app) api() (*api, error) {
	p, err := a.open()
	if err != nil {
		return nil, err
	}
	c, err := p.Credential()
	if err != nil {
		return nil, err
	}
	return &api{app: a, p: p, base: c.Issuer + "/v1"}, nil
}

// reply is a successful answer.
type reply struct {
	status int
	body   json.RawMessage
	etag   string
}

// do sends one request. A refusal is a *failure made of the server's problem
// (RFC 9457).
func (x *api) do(ctx context.Context, method, path string, body any, ifMatch string) (reply, error) {
	call := clilogin.Call{Method: method, URL: x.base + path, Header: http.Header{
		"Accept": {"application/json"}, "User-Agent": {"countersign"},
	}, Prompter: x.app.prompter(false)}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return reply{}, fmt.Errorf("request: %w", err)
		}
		call.Body = text
		call.Header.Set("Content-Type", "application/json")
	}
	if ifMatch != "" {
		call.Header.Set("If-Match", ifMatch)
	}
	resp, err := x.answer(ctx, call)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return reply{}, errors.Join(errors.New("the answer could not be read whole"), err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return reply{}, x.refusal(method, path, resp, text)
	}
	if len(text) > 0 && !json.Valid(text) {
		return reply{}, &failure{exit: exitError, code: "bad_answer", message: "The server's answer is not JSON."}
	}
	return reply{status: resp.StatusCode, body: text, etag: resp.Header.Get("ETag")}, nil
}

// answer sends a call as whoever this is.
func (x *api) answer(ctx context.Context, call clilogin.Call) (*http.Response, error) {
	if x.service != nil {
		return x.send(ctx, call)
	}
	got, err := x.p.Do(ctx, call)
	if err != nil {
		return nil, err
	}
	return got.Response, nil
}

// refusal reads a problem document.
func (x *api) refusal(method, path string, resp *http.Response, text []byte) error {
	var doc struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
		Hint   string `json:"hint"`
		Ref    string `json:"ref"`
		Review string `json:"review"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	if json.Unmarshal(text, &doc) != nil {
		doc.Code, doc.Detail = "", ""
	}
	f := &failure{exit: exitOfStatus(resp.StatusCode), code: doc.Code, message: doc.Detail, fix: doc.Hint, ref: doc.Ref}
	f.looked(doc.Review)
	if f.ref == "" {
		f.ref = resp.Header.Get("Countersign-Ref")
	}
	if f.message == "" {
		f.message = doc.Title
	}
	if f.message == "" {
		f.message = fmt.Sprintf("%s /v1%s was answered %s.", method, path, resp.Status)
	}
	f.message = sentence(f.message)
	for _, e := range doc.Errors {
		f.message += " " + sentence(strings.TrimPrefix(e.Location, "body.")+": "+e.Message)
	}
	list, _ := countersign.ParseChallenge(resp.Header.Values("WWW-Authenticate"))
	for _, ch := range list {
		if f.code == "" {
			f.code = ch.Error
		}
		if ch.Error == "insufficient_user_authentication" || ch.Error == "insufficient_scope" {
			f.exit = exitDenied // it was asked for, and what came was still not enough
		}
	}
	switch {
	case resp.StatusCode >= 500:
		f.exit = exitUnreachable
	case f.exit == exitLogin && f.fix == "" && x.p != nil:
		f.fix = loginCommand(x.p.Name, "")
	}
	if f.code == "" {
		f.code = fmt.Sprintf("http_%d", resp.StatusCode)
	}
	return f
}

// pageSize is how many items a page of a list has.
const pageSize = 200

// all reads a list to its end.
func (x *api) all(ctx context.Context, path string) ([]json.RawMessage, error) {
	out := []json.RawMessage{}
	after := ""
	for {
		q := url.Values{"limit": {fmt.Sprint(pageSize)}}
		if after != "" {
			q.Set("after", after)
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		r, err := x.do(ctx, http.MethodGet, path+sep+q.Encode(), nil, "")
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := json.Unmarshal(r.body, &page); err != nil {
			return nil, &failure{exit: exitError, code: "bad_answer", message: "The server's list cannot be read."}
		}
		out = append(out, page.Items...)
		if page.Next == "" || page.Next == after {
			return out, nil
		}
		after = page.Next
	}
}

// items reads a list into values of one type, beside the text.
func items[T any](ctx context.Context, x *api, path string) (raw []json.RawMessage, out []T, err error) {
	if raw, err = x.all(ctx, path); err != nil {
		return nil, nil, err
	}
	for _, r := range raw {
		var v T
		if err := json.Unmarshal(r, &v); err != nil {
			return nil, nil, &failure{exit: exitError, code: "bad_answer", message: "The server's list cannot be read."}
		}
		out = append(out, v)
	}
	return raw, out, nil
}

// listed shows a list of the server.
func listed[T any](ctx context.Context, a *app, path, schema string, head []string, row func(T) []string) error {
	x, err := a.api()
	if err != nil {
		return err
	}
	raw, all, err := items[T](ctx, x, path)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(schema, map[string]any{"items": raw})
	}
	var rows [][]string
	for _, v := range all {
		rows = append(rows, row(v))
	}
	a.list(head, rows)
	return nil
}
