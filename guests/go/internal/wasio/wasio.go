// Package wasio is a guest's side of the codec `wasio`: one JSON object comes on standard input, what goes to standard output is the
// body of the answer, and the host guesses its type. There is no status: what a caller did wrong is a sentence in the body.
package wasio

import (
	"encoding/json"
	"fmt"
	"os"
)

// Request is what the host says of a request, as far as the guests here look at it.
type Request struct {
	// Params has the first value of every key of the query.
	Params map[string]string `json:"params"`
}

// Param is the parameter `key`; `or` where it is missing or empty.
func (r Request) Param(key, or string) string {
	if value := r.Params[key]; value != "" {
		return value
	}
	return or
}

// Need is the parameter `key`, which may be empty but must be there.
func (r Request) Need(key string) (string, error) {
	value, there := r.Params[key]
	if !there {
		return "", fmt.Errorf("the parameter '%s' is missing", key)
	}
	return value, nil
}

// Main reads the request and writes what `answer` makes of it.
func Main(answer func(Request) (string, error)) {
	var request Request
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		fmt.Fprintf(os.Stderr, "standard input is not the JSON of the codec wasio: %v\n", err)
		os.Exit(1)
	}
	body, err := answer(request)
	if err != nil {
		body = fmt.Sprintf("Error: %v\n", err)
	}
	if _, err := os.Stdout.WriteString(body); err != nil {
		os.Exit(1)
	}
}

// UnknownOp is the error for an `op` that is not among `known`.
func UnknownOp(op, known string) error {
	if op == "" {
		return fmt.Errorf("the parameter 'op' is missing; use one of %s", known)
	}
	return fmt.Errorf("unknown op '%s'; use one of %s", op, known)
}
