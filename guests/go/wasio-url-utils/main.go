// The instrument /url_utils: encodes, decodes, takes apart, checks and joins URLs.
package main

import (
	"fmt"
	"net/url"
	"sort"
	"strings"

	"guests/internal/wasio"
)

const ops = "encode, decode, parse, validate, join"

func main() {
	wasio.Main(answer)
}

func answer(request wasio.Request) (string, error) {
	input, err := request.Need("input")
	if err != nil {
		return "", err
	}
	switch op := strings.ToLower(request.Params["op"]); op {
	case "encode":
		return url.QueryEscape(input) + "\n", nil
	case "decode":
		decoded, err := url.QueryUnescape(input)
		if err != nil {
			return "", fmt.Errorf("cannot decode: %w", err)
		}
		return decoded + "\n", nil
	case "parse":
		parsed, err := url.Parse(input)
		if err != nil {
			return "", fmt.Errorf("not a URL: %w", reason(err))
		}
		return parts(parsed), nil
	case "validate":
		if err := validate(input); err != nil {
			return fmt.Sprintf("invalid: %v\n", err), nil
		}
		return "valid\n", nil
	case "join":
		return join(request.Params["base"], input)
	default:
		return "", wasio.UnknownOp(op, ops)
	}
}

// What is not there has no line.
func parts(parsed *url.URL) string {
	var lines strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&lines, "%s: %s\n", name, value)
		}
	}
	line("scheme", parsed.Scheme)
	line("opaque", parsed.Opaque)
	line("user", parsed.User.Username())
	line("host", parsed.Hostname())
	line("port", parsed.Port())
	line("path", parsed.Path)
	line("query", parsed.RawQuery)
	values := parsed.Query()
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		for _, value := range values[key] {
			fmt.Fprintf(&lines, "  %s = %s\n", key, value)
		}
	}
	line("fragment", parsed.Fragment)
	return lines.String()
}

func validate(input string) error {
	parsed, err := url.Parse(input)
	switch {
	case err != nil:
		return reason(err)
	case parsed.Scheme == "":
		return fmt.Errorf("it has no scheme")
	case parsed.Host == "" && parsed.Opaque == "" && parsed.Scheme != "file":
		return fmt.Errorf("it has no host")
	default:
		return nil
	}
}

func join(base, input string) (string, error) {
	if base == "" {
		return "", fmt.Errorf("the parameter 'base' is missing")
	}
	parsed, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("base is not a URL: %w", reason(err))
	}
	joined, err := parsed.Parse(input)
	if err != nil {
		return "", fmt.Errorf("not a URL: %w", reason(err))
	}
	return joined.String() + "\n", nil
}

// An error of net/url without the URL, which the caller knows.
func reason(err error) error {
	if err, ok := err.(*url.Error); ok {
		return err.Err
	}
	return err
}
