package pdp

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign-dev/countersign/internal/jose"
)

// The names that the document of the API has for what is said here.
const (
	schemaSubject   = "AccessSubject"
	schemaAction    = "AccessAction"
	schemaResource  = "AccessResource"
	schemaContext   = "AccessContext"
	schemaQuestion  = "AccessEvaluation"
	schemaQuestions = "AccessEvaluations"
	schemaSearch    = "AccessActionSearch"
	schemaDecision  = "AccessDecision"
	schemaDecisions = "AccessDecisions"
	schemaFound     = "AccessActions"
	schemaMetadata  = "AccessMetadata"
	schemaError     = "PolicyBundleError"
	schemaBundle    = "PolicyBundle"
	problemOfAPI    = "Problem" // the management API's own
)

// Describe writes the routes of this package into the document of the management API:
// what they take, what they answer, and how they fail.
func Describe(o *huma.OpenAPI) {
	for name, s := range schemas() {
		o.Components.Schemas.Map()[name] = s
	}
	o.Components.SecuritySchemes["clientSecret"] = &huma.SecurityScheme{
		Type: "http", Scheme: "basic", Description: "The identifier and secret of a confidential client (RFC 6749 section 2.3.1).",
	}
	o.Components.SecuritySchemes["clientCertificate"] = &huma.SecurityScheme{
		Type: "mutualTLS", Description: "The certificate of a client (RFC 8705).",
	}
	const tag = "decisions at resource servers"
	body := fmt.Sprintf("One object of at most %d KB, in which no name occurs twice. No text has a NUL, and the limits of identifiers are in bytes.", limits.Bytes>>10)
	o.AddOperation(&huma.Operation{
		OperationID: "authzen-configuration", Method: http.MethodGet, Path: pathMetadata, Tags: []string{tag},
		Summary:   "Say where AuthZEN is answered",
		Responses: map[string]*huma.Response{"200": said("The metadata (AuthZEN 1.0).", ref(schemaMetadata))},
	})
	for _, x := range []struct {
		id, path, summary, takes, gives string
		answer                          *huma.Schema
	}{
		{"evaluate-access", pathEvaluation, "Say whether somebody may do something (AuthZEN 1.0)", schemaQuestion, "The decision; that it is no is an answer too.", ref(schemaDecision)},
		{
			"evaluate-accesses", pathEvaluations, "Answer several questions in one request (AuthZEN 1.0)", schemaQuestions,
			"The decisions in the order of the questions, up to where the semantic ends them. Without evaluations, the one decision.", &huma.Schema{OneOf: []*huma.Schema{ref(schemaDecisions), ref(schemaDecision)}},
		},
		{"search-access-actions", pathActions, "Find what somebody may do with a resource (AuthZEN 1.0)", schemaSearch, "All there are, on one page.", ref(schemaFound)},
	} {
		o.AddOperation(&huma.Operation{
			OperationID: x.id, Method: http.MethodPost, Path: x.path, Summary: x.summary, Tags: []string{tag}, Security: asked(),
			Parameters:  []*huma.Param{{Name: "X-Request-ID", In: "header", Schema: text(1, maxRequestID), Description: "The caller's own name of the request. It comes back."}},
			RequestBody: &huma.RequestBody{Required: true, Description: body, Content: map[string]*huma.MediaType{"application/json": {Schema: ref(x.takes)}}},
			Responses:   failing(x.gives, x.answer, "text/plain", words("The stable name of the error, a colon, what is wrong in a sentence, and the reference of this request")),
		})
	}
	bundle := failing("The head, and the content unless the caller has it.", ref(schemaBundle), typeJSON, ref(schemaError))
	bundle["503"].Content["application/problem+json"] = &huma.MediaType{Schema: ref(problemOfAPI)} // while nothing below /v1 is answered
	o.AddOperation(&huma.Operation{
		OperationID: "get-policy-bundle", Method: http.MethodGet, Path: pathBundle, Summary: "Give a resource server the policies that it may hold", Tags: []string{tag}, Security: asked(),
		Parameters: []*huma.Param{
			{Name: "aud", In: "query", Required: true, Schema: &huma.Schema{Type: "string", Format: "uri"}, Description: "The identifier of a resource that the caller serves"},
			{Name: "have", In: "query", Schema: &huma.Schema{Type: "string"}, Description: "The hash of the content that the caller has, from the head of its last bundle"},
		},
		Responses: bundle,
	})
}

// asked is how a resource server says who it is.
func asked() []map[string][]string {
	return []map[string][]string{{"dpop": {"feed"}}, {"clientSecret": {}}, {"clientCertificate": {}}}
}

// said is an answer as JSON.
func said(words string, s *huma.Schema) *huma.Response {
	return &huma.Response{Description: words, Content: map[string]*huma.MediaType{typeJSON: {Schema: s}}}
}

const typeJSON = "application/json"

// failing are an answer and every way to fail, in a form of its own.
func failing(words string, answer *huma.Schema, media string, failure *huma.Schema) map[string]*huma.Response {
	header := func(r *huma.Response, name, words string) *huma.Response {
		if r.Headers == nil {
			r.Headers = map[string]*huma.Param{}
		}
		r.Headers[name] = &huma.Param{Schema: &huma.Schema{Type: "string"}, Description: words}
		return r
	}
	out := map[string]*huma.Response{"200": said(words, answer)}
	for status, words := range map[int]string{
		http.StatusBadRequest:          "The request is not one that is understood: invalid_request.",
		http.StatusUnauthorized:        "Who asks did not prove who it is: invalid_client, invalid_token, invalid_dpop_proof, token_missing. Of a token in the question it says nothing.",
		http.StatusForbidden:           "Who asks may not: insufficient_scope, feed_audience.",
		http.StatusInternalServerError: "A fault in the server: server_error.",
		http.StatusServiceUnavailable:  "It cannot be decided now: policy_unavailable, temporarily_unavailable.",
	} {
		out[strconv.Itoa(status)] = &huma.Response{Description: words, Content: map[string]*huma.MediaType{media: {Schema: failure}}}
	}
	header(out["401"], "WWW-Authenticate", "How to prove it, by DPoP and by Basic")
	header(out["503"], "Retry-After", "Seconds to wait")
	return out
}

func ref(name string) *huma.Schema { return &huma.Schema{Ref: "#/components/schemas/" + name} }

// text is a string of so many letters.
func text(least, most int) *huma.Schema {
	return &huma.Schema{Type: "string", MinLength: &least, MaxLength: &most}
}

func words(s string) *huma.Schema { return &huma.Schema{Type: "string", Description: s} }

// member is a member of an object.
type member struct {
	name   string
	schema *huma.Schema
	needed bool
}

// takes is an object that is sent: members that are not known are passed over.
func takes(doc string, members ...member) *huma.Schema { return made(doc, true, members) }

// gives is an object that is answered, which has no other members.
func gives(doc string, members ...member) *huma.Schema { return made(doc, false, members) }

func made(doc string, others bool, members []member) *huma.Schema {
	s := &huma.Schema{Type: "object", Description: doc, AdditionalProperties: others, Properties: map[string]*huma.Schema{}}
	for _, m := range members {
		if s.Properties[m.name] = m.schema; m.needed {
			s.Required = append(s.Required, m.name)
		}
	}
	return s
}

// anything are properties of which nothing is taken.
func anything() member {
	return member{"properties", &huma.Schema{Type: "object", AdditionalProperties: true, Description: "Taken, and not looked at"}, false}
}

func schemas() map[string]*huma.Schema {
	name := func() *huma.Schema { return text(1, maxText) }
	question := []member{
		{"subject", ref(schemaSubject), true},
		{"action", ref(schemaAction), true},
		{"resource", ref(schemaResource), true},
		{"context", ref(schemaContext), false},
	}
	defaults := make([]member, 0, len(question)+2)
	for _, m := range question {
		defaults = append(defaults, member{m.name, m.schema, false})
	}
	most := maxItems
	return map[string]*huma.Schema{
		schemaSubject: takes("Whom it is about",
			member{"type", described(name(), "person (or user), or service. Of another type nobody is known."), true},
			member{"id", described(name(), "The sub of its tokens"), true}, anything()),
		schemaAction: takes("What they would do", member{"name", name(), true}, anything()),
		schemaResource: takes("What with", member{"type", name(), true}, member{"id", name(), true},
			member{"properties", takes("Of which are taken: all that the deployment's schema declares of the type (a String is a string, a Long a whole number within ±(2⁵³−1), a Bool true or false, a Set<String> an array of at most 64 strings; strings of at most 512 bytes, of at most 4096 together), and",
				member{"owner", described(name(), "The sub of the person whose it is"), false},
				member{"ownerID", described(name(), "Or that person's user name or address"), false}), false}),
		schemaContext:  takes("What else is known", member{"access_token", described(text(1, jose.MaxToken), "The token that the request at the resource server came with. Without one nothing is proved."), false}),
		schemaQuestion: takes("A question", question...),
		schemaQuestions: takes("Several questions. What stands at the top is what a question has that does not say it itself, each member as a whole.",
			append(defaults,
				member{"evaluations", &huma.Schema{Type: "array", MaxItems: &most, Items: &huma.Schema{Description: "What of an AccessEvaluation the top does not say. One that cannot be read is refused in its place."}, Description: "None, and the top is the question."}, false},
				member{"options", takes("How they are answered", member{"evaluations_semantic", &huma.Schema{
					Type: "string", Enum: []any{executeAll, denyOnFirstDeny, permitOnFirstPermit}, Default: executeAll, Description: "Whether all are answered, or up to the first no, or up to the first yes",
				}, false}), false})...),
		schemaSearch: takes("Which actions", member{"subject", ref(schemaSubject), true}, member{"resource", ref(schemaResource), true}, member{"context", ref(schemaContext), false},
			member{"page", takes("There is one", member{"token", &huma.Schema{Type: "string", MaxLength: new(0), Description: "Empty: there is no other page"}, false}), false}),
		schemaDecision: gives("An answer", member{"decision", &huma.Schema{Type: "boolean"}, true},
			member{"context", gives("Of a no: what would do, as far as that is known",
				member{"acr_values", words("Authentication contexts that would do, with spaces between them (RFC 9470)"), false},
				member{"max_age", &huma.Schema{Type: "integer", Format: "int64", Minimum: new(1.0), Description: "Seconds that the sign-in may be old (RFC 9470)"}, false},
				member{"client_assurance", words("What a machine's client would have to prove: m1 to m4"), false},
				member{"reason_user", &huma.Schema{Type: "object", AdditionalProperties: &huma.Schema{Type: "string"}, Description: "The policy's public reason, by language"}, false},
				member{"error", gives("Why a question was not answered",
					member{"status", &huma.Schema{Type: "integer", Enum: []any{http.StatusBadRequest, http.StatusUnauthorized}, Description: "400: it cannot be read. 401: its token does not count."}, true},
					member{"message", words("In a sentence"), true}), false},
				member{"ref", words("Reference of this request"), true}), false}),
		schemaDecisions: gives("Answers", member{"evaluations", &huma.Schema{Type: "array", Items: ref(schemaDecision)}, true}),
		schemaFound: gives("Actions",
			member{"page", gives("The page", member{"next_token", &huma.Schema{Type: "string", MaxLength: new(0), Description: "Always empty"}, true}), true},
			member{"results", &huma.Schema{Type: "array", Items: gives("One", member{"name", words("Its name"), true})}, true}),
		schemaMetadata: gives("Metadata of the policy decision point",
			member{"policy_decision_point", words("The issuer"), true}, member{"access_evaluation_endpoint", words("Where one question is answered"), true},
			member{"access_evaluations_endpoint", words("Where several are"), true}, member{"search_action_endpoint", words("Where actions are searched for"), true}),
		schemaError: gives("Why there is no bundle", member{"error", words("Stable name of the error"), true}, member{"error_description", words("In a sentence"), true},
			member{"ref", words("Reference of this request, as in Countersign-Ref; left out where the server did not come to look at it"), false}),
		schemaBundle: gives("Policies of one resource server",
			member{"head", words("A JWS of type countersign-bundle+jwt by the key of the feed: iss, aud, epoch, pol (version of the policies), iat, and the hash of the content"), true},
			member{"content", words("A JSON document as text: schema and policies in Cedar, who is in the groups that they name, and where each action is decided. Left out if its hash is the one sent as have."), false}),
	}
}

func described(s *huma.Schema, doc string) *huma.Schema {
	s.Description = doc
	return s
}
