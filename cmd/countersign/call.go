package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/clilogin"
)

func (a *app) call() *cobra.Command {
	var (
		data, file, key, audience string
		header                    []string
		noWait, include           bool
		noBrowser                 bool
		timeout                   time.Duration
	)
	c := &cobra.Command{
		Use:   "call METHOD URL",
		Short: "Call an API as you, with proof",
		Long: `Call an API with a token and the proof that goes with it. The API says itself
which tokens it takes (RFC 9728); a token goes only to https addresses and to
this computer. When the API asks for more proof, your browser opens, you confirm,
and the same request is sent once more with the same Idempotency-Key.`,
		Example: "  countersign call GET https://api.example.com/notes\n  countersign call POST https://api.example.com/keys/rotate",
		Args:    cobra.ExactArgs(2),
	}
	f := c.Flags()
	f.StringVarP(&data, "data", "d", "", "body to send; seen by everyone who can list processes")
	f.StringVar(&file, "data-file", "", "file to send as the body, - for standard input")
	f.StringArrayVarP(&header, "header", "H", nil, "header to send, \"Name: value\"")
	f.StringVar(&key, "idempotency-key", "", "Idempotency-Key of the request; without it one is made")
	f.StringVar(&audience, "audience", "", "resource that the token is for, if the API does not say")
	f.BoolVarP(&include, "include", "i", false, "write status and headers before the body")
	f.BoolVar(&noWait, "no-wait", false, "do not ask for more proof: exit 5")
	f.BoolVar(&noBrowser, "no-browser", false, "print the address, open nothing")
	f.DurationVar(&timeout, "timeout", clilogin.PromptTimeout, "how long to wait for you")
	c.MarkFlagsMutuallyExclusive("data", "data-file")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		call := clilogin.Call{Method: strings.ToUpper(args[0]), URL: args[1], Audience: audience, Timeout: timeout}
		if !methodName.MatchString(call.Method) {
			return usage("%q is not an HTTP method.", args[0])
		}
		var err error
		if call.Body, err = a.body(data, file); err != nil {
			return err
		}
		if call.Header, err = headerOf(header, key, call.Body); err != nil {
			return err
		}
		if !noWait {
			call.Prompter = a.prompter(noBrowser)
		}
		p, err := a.open()
		if err != nil {
			return err
		}
		got, err := p.Do(ctx, call)
		if err != nil {
			return err
		}
		defer got.Response.Body.Close()
		return a.answer(p, call, got, include)
	})
	return c
}

var methodName = regexp.MustCompile(`^[A-Z][A-Z-]{0,31}$`)

// maxBody bounds what is sent, because it may be sent twice, and what is put
// into JSON.
const maxBody = 64 << 20

func (a *app) body(data, file string) ([]byte, error) {
	if file == "" {
		return []byte(data), nil
	}
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("The file cannot be read: %v.", err)
		}
		defer f.Close()
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	if err != nil {
		return nil, usage("The file cannot be read: %v.", err)
	}
	if len(body) > maxBody {
		return nil, usage("The body is larger than 64 MiB.")
	}
	return body, nil
}

func headerOf(lines []string, key string, body []byte) (http.Header, error) {
	h := http.Header{"User-Agent": {"countersign"}}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, usage("A header is written \"Name: value\".")
		}
		h.Add(name, strings.TrimSpace(value))
	}
	if key != "" {
		h.Set("Idempotency-Key", key)
	}
	if len(body) > 0 && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/octet-stream")
		if json.Valid(body) {
			h.Set("Content-Type", "application/json")
		}
	}
	return h, nil
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// answer writes what the API answered, and ends as it did.
func (a *app) answer(p *clilogin.Profile, call clilogin.Call, got clilogin.Answer, include bool) error {
	resp := got.Response
	if got.Anonymous {
		a.say("Sent without a token: %s does not say who protects it.", clean(resp.Request.URL.Host))
	}
	if got.SteppedUp != nil && !a.json {
		a.say("Confirmed; the request was sent again.")
	}
	if a.json {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
		if err != nil || len(body) > maxBody {
			return errors.Join(errors.New("the answer could not be read whole"), err)
		}
		if err := a.document("call/v1", map[string]any{
			"status": resp.StatusCode, "headers": resp.Header, "body": inJSON(body),
			"stepped_up": got.SteppedUp != nil, "anonymous": got.Anonymous,
		}); err != nil {
			return err
		}
	} else {
		if include {
			if _, err := io.WriteString(a.out, resp.Proto+" "+resp.Status+"\r\n"); err != nil {
				return err
			}
			if err := resp.Header.Write(a.out); err != nil {
				return err
			}
			if _, err := io.WriteString(a.out, "\r\n"); err != nil {
				return err
			}
		}
		last := &lastByte{w: a.out}
		if _, err := io.Copy(last, resp.Body); err != nil {
			return errors.Join(errors.New("the answer could not be read whole"), err)
		}
		if isTerminal(a.out) && last.any && last.b != '\n' {
			_, _ = io.WriteString(a.out, "\n")
		}
	}
	return outcome(p, call, got)
}

// inJSON is a body as it stands in a document: JSON as it is, text as a string.
func inJSON(body []byte) any {
	if json.Valid(body) {
		return json.RawMessage(body)
	}
	return string(body)
}

type lastByte struct {
	w   io.Writer
	b   byte
	any bool
}

func (l *lastByte) Write(b []byte) (int, error) {
	if len(b) > 0 {
		l.b, l.any = b[len(b)-1], true
	}
	return l.w.Write(b)
}

// outcome is nil if the request was answered well.
func outcome(p *clilogin.Profile, call clilogin.Call, got clilogin.Answer) error {
	resp := got.Response
	exit := exitOfStatus(resp.StatusCode)
	if exit == exitOK {
		return nil
	}
	f := &failure{
		exit: exit, code: "http_" + strings.ToLower(strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "_")),
		message: call.Method + " " + call.URL + " was answered " + resp.Status + ".", ref: resp.Header.Get("Countersign-Ref"),
	}
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return f
	}
	list, _ := countersign.ParseChallenge(resp.Header.Values("WWW-Authenticate"))
	for _, ch := range list {
		if ch.Error == "" {
			continue
		}
		f.code = ch.Error
		if ch.Description != "" {
			f.message += " " + sentence(ch.Description)
		}
		break
	}
	switch {
	case f.code == "insufficient_user_authentication", f.code == "insufficient_scope":
		f.exit = exitDenied // it was asked for, and what came was still not enough
	case f.exit == exitLogin && !got.Anonymous:
		f.fix = loginCommand(p.Name, "")
	}
	return f
}
