package foreign

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// lines gives the lines of a reader. One that is too long is given as it begins,
// and the rest of it is passed over.
func lines(r io.Reader, take func(n int, text []byte) error) error {
	b := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		text, err := line(b)
		if len(bytes.TrimSpace(text)) > 0 {
			if err := take(n, text); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// line reads up to the end of a line, and keeps at most maxLine of it.
func line(b *bufio.Reader) (text []byte, err error) {
	for {
		part, err := b.ReadSlice('\n')
		if room := maxLine - len(text); len(part) <= room {
			text = append(text, part...)
		} else {
			text = append(text, part[:room]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, err
		}
	}
}

// objects gives the objects of a reader: one in each line, those of an array, or
// those of the array "value" of an object, which is how exports come.
func objects(r io.Reader, take func(n int, text []byte) error) error {
	b := bufio.NewReaderSize(r, 64<<10)
	first, err := b.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	start := bytes.TrimLeft(first, " \t\r\n\xef\xbb\xbf")
	if _, err := b.Discard(len(first) - len(start)); err != nil {
		return err
	}
	line, _, _ := bytes.Cut(start, []byte("\n"))
	switch line = bytes.TrimSpace(line); {
	case len(start) > 0 && start[0] == '[':
		return elements(json.NewDecoder(b), take)
	case envelope.Match(start) || len(line) < 3 && len(start) > 0 && start[0] == '{': // laid out over lines
		return valueOf(json.NewDecoder(b), take)
	}
	return lines(b, take)
}

// envelope is how an object with an array of the events begins.
var envelope = regexp.MustCompile(`^\{\s*("@odata[^"]*"\s*:\s*"[^"]*"\s*,\s*)*"value"\s*:\s*\[`)

// valueOf reads up to the array "value" and gives its elements.
func valueOf(d *json.Decoder, take func(n int, text []byte) error) error {
	if _, err := d.Token(); err != nil {
		return badJSON(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return badJSON(err)
		}
		if name == "value" {
			return elements(d, take)
		}
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return badJSON(err)
		}
	}
	return errNoArray
}

var errNoArray = errors.New(`this is neither a line for each event, nor an array of them, nor an object with one named "value"`)

func elements(d *json.Decoder, take func(n int, text []byte) error) error {
	switch t, err := d.Token(); {
	case err != nil:
		return badJSON(err)
	case t != json.Delim('['):
		return errNoArray
	}
	for n := 1; d.More(); n++ {
		var text json.RawMessage
		if err := d.Decode(&text); err != nil {
			return fmt.Errorf("event %d: %w", n, badJSON(err))
		}
		if err := take(n, text); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return badJSON(err)
}

func badJSON(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("this is no JSON to its end: %w", err)
}

// object reads what is known of an object. What else it holds is not looked at.
func object(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("has something else than expected in %q", wrong.Field)
		}
		return errors.New("is no JSON object")
	}
	return nil
}

// combined is nginx's format "combined", and what begins like it.
var combined = regexp.MustCompile(`^(\S+) \S+ (\S+) \[([^\]]{1,40})\] "([A-Z]{1,16}) [^"]*" ([1-5][0-9]{2})(?:\s|$)`)

func nginx(text []byte) (f fact, err error) {
	m := combined.FindSubmatch(text)
	if m == nil {
		return f, errors.New("is not of the format combined")
	}
	if f.at, err = time.Parse("02/Jan/2006:15:04:05 -0700", string(m[3])); err != nil {
		return f, errors.New("has no time")
	}
	if f.who = string(m[2]); f.who == "-" {
		return f, errSkip
	}
	switch string(m[4]) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
	default:
		f.write = true
	}
	f.failed = m[5][0] == '4' || m[5][0] == '5'
	return f, nil
}

func okta(text []byte) (f fact, err error) {
	var e struct {
		Published time.Time `json:"published"`
		EventType string    `json:"eventType"`
		Outcome   struct {
			Result string `json:"result"`
		} `json:"outcome"`
		Actor struct {
			ID          string `json:"id"`
			AlternateID string `json:"alternateId"`
			Type        string `json:"type"`
		} `json:"actor"`
		Target []struct {
			Type string `json:"type"`
			Name string `json:"displayName"`
		} `json:"target"`
		Debug struct {
			Data struct {
				Factor string `json:"factor"`
			} `json:"debugData"`
		} `json:"debugContext"`
	}
	if err := object(text, &e); err != nil {
		return f, err
	}
	f.at, f.who = e.Published, either(e.Actor.AlternateID, e.Actor.ID)
	f.failed = e.Outcome.Result != "SUCCESS" && e.Outcome.Result != "ALLOW"
	for _, t := range e.Target {
		if t.Type == "AppInstance" {
			f.app = t.Name
		}
	}
	switch e.EventType {
	case "user.session.start":
		f.signIn = true
	case "user.authentication.auth_via_mfa":
		f.signIn, f.rung = true, named(e.Debug.Data.Factor, assurance.Multi)
	case "user.authentication.sso":
	case "":
		return f, errors.New("has no eventType")
	default:
		return f, errSkip
	}
	if e.Actor.Type != "" && e.Actor.Type != "User" {
		return f, errSkip
	}
	return f, nil
}

func entra(text []byte) (f fact, err error) {
	var e struct {
		At          time.Time `json:"createdDateTime"`
		UPN         string    `json:"userPrincipalName"`
		UserID      string    `json:"userId"`
		App         string    `json:"appDisplayName"`
		Requirement string    `json:"authenticationRequirement"`
		Status      *struct {
			Code int `json:"errorCode"`
		} `json:"status"`
		Details []struct {
			Method    string `json:"authenticationMethod"`
			Succeeded *bool  `json:"succeeded"`
		} `json:"authenticationDetails"`
	}
	if err := object(text, &e); err != nil {
		return f, err
	}
	if e.Status == nil {
		return f, errors.New("has no status")
	}
	f.at, f.who, f.app, f.signIn, f.failed = e.At, either(e.UPN, e.UserID), e.App, true, e.Status.Code != 0
	if e.Requirement == "singleFactorAuthentication" {
		f.rung = assurance.Single
	}
	for _, d := range e.Details {
		if d.Succeeded != nil && !*d.Succeeded {
			continue
		}
		f.rung = max(f.rung, named(d.Method, assurance.None))
	}
	if e.Requirement == "multiFactorAuthentication" {
		f.rung = max(f.rung, assurance.Multi)
	}
	return f, nil
}

func keycloak(text []byte) (f fact, err error) {
	var e struct {
		Time    int64  `json:"time"` // milliseconds
		Type    string `json:"type"`
		UserID  string `json:"userId"`
		Client  string `json:"clientId"`
		Details struct {
			Username   string `json:"username"`
			Credential string `json:"credential_type"`
		} `json:"details"`
	}
	if err := object(text, &e); err != nil {
		return f, err
	}
	if e.Type == "" || e.Time == 0 {
		return f, errors.New("has no type or time")
	}
	f.at, f.who, f.app = time.UnixMilli(e.Time), either(e.UserID, e.Details.Username), e.Client
	kind, isError := strings.CutSuffix(e.Type, "_ERROR")
	f.failed = isError
	switch kind {
	case "LOGIN":
		f.signIn, f.rung = true, named(e.Details.Credential, assurance.None)
	case "REFRESH_TOKEN", "CODE_TO_TOKEN":
	default:
		return f, errSkip
	}
	return f, nil
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// named is the rung of a method by its name in a log: a passkey, a key or what is
// like one; else what is given.
func named(method string, otherwise assurance.Rung) assurance.Rung {
	m := strings.ToLower(method)
	for _, part := range []string{"webauthn", "fido2", "passkey", "windows hello"} {
		if strings.Contains(m, part) {
			return assurance.Phishing
		}
	}
	if m == "password" {
		return max(otherwise, assurance.Single)
	}
	return otherwise
}
