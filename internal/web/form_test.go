package web

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/countersign-dev/countersign/internal/problem"
)

const formType = "application/x-www-form-urlencoded"

func post(typ, body string) *http.Request {
	r := httptest.NewRequest("POST", "/?a=query", strings.NewReader(body))
	r.Header["Content-Type"] = []string{typ}
	return r
}

func TestParseForm(t *testing.T) {
	f, err := ParseForm(post(formType+"; charset=UTF-8", "a=1+%2b&b=&c&resource=x&resource=y&&%C3%A9=%F0%9F%98%80&d=e=f"), 200, "resource")
	if err != nil {
		t.Fatal(err)
	}
	if f.Get("a") != "1 +" || f.Has("b") || f.Has("c") || f.Get("zzz") != "" || f.Get("é") != "😀" || f.Get("d") != "e=f" || f.Get("resource") != "x" || !slices.Equal(f.All("resource"), []string{"x", "y"}) {
		t.Errorf("%v", f)
	}
	if f, err := ParseForm(httptest.NewRequest("GET", "/?a=query&state="+strings.Repeat("s", 4096), nil), 8192); err != nil || f.Get("a") != "query" {
		t.Errorf("%v, %v", f, err)
	}
	if (Form{}).Has("a") || (Form{}).Get("a") != "" || (Form{}).All("a") != nil {
		t.Error("the empty form has a")
	}
}

func TestParseFormRefuses(t *testing.T) {
	twoTypes := post(formType, "a=1")
	twoTypes.Header.Add("Content-Type", formType)
	chunked := post(formType, "a="+strings.Repeat("x", 200))
	chunked.ContentLength = -1
	broken := post(formType, "")
	broken.Body = io.NopCloser(iotest.ErrReader(errors.New("gone")))
	broken.ContentLength = -1
	untyped := post("", "a=1")
	delete(untyped.Header, "Content-Type")
	for what, c := range map[string]struct {
		r    *http.Request
		code string
	}{
		"repeated":         {post(formType, "a=1&a=1"), "parameter_repeated"},
		"repeated empty":   {post(formType, "a=&a=1"), "parameter_repeated"},
		"repeated escaped": {post(formType, "a=1&%61=2"), "parameter_repeated"},
		"case matters":     {post(formType, "a=1&A=2"), ""},
		"NUL":              {post(formType, "a=%00"), "parameter_malformed"},
		"NUL in name":      {post(formType, "a%00=1"), "parameter_malformed"},
		"UTF-8":            {post(formType, "a=%ff"), "parameter_malformed"},
		"raw UTF-8":        {post(formType, "a=\xff"), "parameter_malformed"},
		"escape":           {post(formType, "a=%zz"), "parameter_malformed"},
		"escape in name":   {post(formType, "%=1"), "parameter_malformed"},
		"semicolon":        {post(formType, "a=1;b=2"), "parameter_malformed"},
		"long":             {post(formType, "a="+strings.Repeat("x", 200)), "form_too_large"},
		"long, chunked":    {chunked, "form_too_large"},
		"many":             {post(formType, strings.Repeat("&", 10)+"a=1"), ""},
		"broken":           {broken, "form_malformed"},
		"json":             {post("application/json", "{}"), "form_type"},
		"multipart":        {post("multipart/form-data; boundary=x", ""), "form_type"},
		"latin1":           {post(formType+"; charset=iso-8859-1", "a=1"), "form_type"},
		"no type":          {untyped, "form_type"},
		"bad type":         {post(formType+"; =", "a=1"), "form_type"},
		"two types":        {twoTypes, "form_type"},
		"query":            {httptest.NewRequest("GET", "/?a=1&a=2", nil), "parameter_repeated"},
		"long query":       {httptest.NewRequest("GET", "/?a="+strings.Repeat("x", 200), nil), "form_too_large"},
	} {
		f, err := ParseForm(c.r, 100)
		if problem.CodeOf(err) != c.code || err != nil && (f.values != nil || !errors.Is(err, problem.Invalid)) {
			t.Errorf("%s: %v, %v, want %q", what, f, err, c.code)
		}
	}
	var b strings.Builder
	for i := range MaxParameters + 1 {
		b.WriteString("&p" + strings.Repeat("x", i))
	}
	if _, err := ParseForm(post(formType, b.String()[1:]), 1<<20); problem.CodeOf(err) != "form_too_large" {
		t.Errorf("%d parameters: %v", MaxParameters+1, err)
	}
}

// Where we read a form, the standard library reads the same.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"a=1&b=2", "a=%00", "a=1;b", "&&=", "resource=1&resource=2", "%61=1&a=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		form, err := parse(s, 1000, []string{"resource"})
		if err != nil {
			if form.values != nil || problem.From(err) == nil {
				t.Fatalf("%v, %v", form, err)
			}
			return
		}
		std, err := url.ParseQuery(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		for name, values := range std {
			if name != "resource" && len(values) != 1 {
				t.Fatalf("%q: %q is repeated", s, name)
			}
			if form.Get(name) != values[0] && name != "resource" {
				t.Fatalf("%q: %q is %q and %q", s, name, form.Get(name), values[0])
			}
		}
	})
}
