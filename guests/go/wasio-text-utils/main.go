// The instrument /text_utils: changes a text or answers a question about it, with its numbers below.
package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"guests/internal/wasio"
)

const ops = "upper, lower, title, reverse, length, words, chars, trim, split, contains, replace, palindrome"

func main() {
	wasio.Main(answer)
}

func answer(request wasio.Request) (string, error) {
	text, err := request.Need("text")
	if err != nil {
		return "", err
	}
	result, err := apply(text, request)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\n\n%s\n", result, statistics(text)), nil
}

func apply(text string, request wasio.Request) (string, error) {
	switch op := strings.ToLower(request.Params["op"]); op {
	case "upper":
		return strings.ToUpper(text), nil
	case "lower":
		return strings.ToLower(text), nil
	case "title":
		return title(text), nil
	case "reverse":
		return reverse(text), nil
	case "length":
		return fmt.Sprintf("%d bytes", len(text)), nil
	case "words":
		return strconv.Itoa(len(strings.Fields(text))), nil
	case "chars":
		return strconv.Itoa(utf8.RuneCountInString(text)), nil
	case "trim":
		return strings.TrimSpace(text), nil
	case "split":
		return strings.Join(strings.Split(text, request.Param("delimiter", ",")), "\n"), nil
	case "contains":
		search, err := request.Need("search")
		return strconv.FormatBool(strings.Contains(text, search)), err
	case "replace":
		if request.Params["old"] == "" {
			return "", fmt.Errorf("the parameter 'old' is missing")
		}
		return strings.ReplaceAll(text, request.Params["old"], request.Params["new"]), nil
	case "palindrome":
		return strconv.FormatBool(palindrome(text)), nil
	default:
		return "", wasio.UnknownOp(op, ops)
	}
}

func title(text string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		inside := unicode.IsLetter(before) || unicode.IsDigit(before) || before == '\''
		before = r
		if inside {
			return unicode.ToLower(r)
		}
		return unicode.ToTitle(r)
	}, text)
}

// Combining marks stay behind the letter they belong to.
func reverse(text string) string {
	var clusters []string
	for _, r := range text {
		if last := len(clusters) - 1; last >= 0 && unicode.Is(unicode.M, r) {
			clusters[last] += string(r)
		} else {
			clusters = append(clusters, string(r))
		}
	}
	for i, j := 0, len(clusters)-1; i < j; i, j = i+1, j-1 {
		clusters[i], clusters[j] = clusters[j], clusters[i]
	}
	return strings.Join(clusters, "")
}

// Only letters and digits count, and not their case.
func palindrome(text string) bool {
	var runes []rune
	for _, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			runes = append(runes, unicode.ToLower(r))
		}
	}
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		if runes[i] != runes[j] {
			return false
		}
	}
	return true
}

func statistics(text string) string {
	lines := 0
	if text != "" {
		lines = 1 + strings.Count(strings.TrimSuffix(text, "\n"), "\n")
	}
	return fmt.Sprintf("--- %d characters, %d words, %d lines", utf8.RuneCountInString(text), len(strings.Fields(text)), lines)
}
