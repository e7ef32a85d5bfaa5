// The instrument /hash_utils: digests and encodings of a text. What is decoded is answered as the bytes it is.
package main

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"guests/internal/wasio"
)

const ops = "md5, sha1, sha256, sha512, base64encode, base64decode, hexencode, hexdecode, all"

// What turns bytes into text, in the order of `all`.
var encoders = []struct {
	name   string
	encode func([]byte) string
}{
	{"md5", func(input []byte) string { return fmt.Sprintf("%x", md5.Sum(input)) }},
	{"sha1", func(input []byte) string { return fmt.Sprintf("%x", sha1.Sum(input)) }},
	{"sha256", func(input []byte) string { return fmt.Sprintf("%x", sha256.Sum256(input)) }},
	{"sha512", func(input []byte) string { return fmt.Sprintf("%x", sha512.Sum512(input)) }},
	{"base64encode", base64.StdEncoding.EncodeToString},
	{"hexencode", hex.EncodeToString},
}

func main() {
	wasio.Main(answer)
}

func answer(request wasio.Request) (string, error) {
	input, err := request.Need("input")
	if err != nil {
		return "", err
	}
	op := strings.ToLower(request.Param("op", "all"))
	if rest, short := strings.CutPrefix(op, "b64"); short {
		op = "base64" + rest
	}
	switch op {
	case "all":
		var lines strings.Builder
		for _, encoder := range encoders {
			fmt.Fprintf(&lines, "%s: %s\n", encoder.name, encoder.encode([]byte(input)))
		}
		return lines.String(), nil
	case "base64decode":
		decoded, err := base64.StdEncoding.DecodeString(input)
		return decodedOr(decoded, err, "base64")
	case "hexdecode":
		decoded, err := hex.DecodeString(input)
		return decodedOr(decoded, err, "hexadecimal")
	}
	for _, encoder := range encoders {
		if encoder.name == op {
			return encoder.encode([]byte(input)) + "\n", nil
		}
	}
	return "", wasio.UnknownOp(op, ops)
}

func decodedOr(decoded []byte, err error, encoding string) (string, error) {
	if err != nil {
		return "", fmt.Errorf("the input is not %s", encoding)
	}
	return string(decoded), nil
}
