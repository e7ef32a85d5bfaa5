package fd

import (
	"encoding/binary"
	"errors"
	"sort"
)

// The two wire types our messages are made of, of protobuf's six.
const (
	varint = 0
	length = 2
)

var errDamaged = errors.New("not the protobuf it should be")

// A field as it stands in a message.
type field struct {
	number uint64
	value  uint64 // of a varint
	bytes  []byte // of everything with a length
}

// Calls `each` for every field of a message. Unknown ones come too: it is up to `each` to skip them.
func fields(message []byte, each func(field) error) error {
	for len(message) > 0 {
		key, read := binary.Uvarint(message)
		if read <= 0 {
			return errDamaged
		}
		message = message[read:]
		value, read := binary.Uvarint(message)
		if read <= 0 {
			return errDamaged
		}
		message = message[read:]
		next := field{number: key >> 3, value: value}
		switch key & 7 {
		case varint:
		case length:
			if value > uint64(len(message)) {
				return errDamaged
			}
			next.bytes, message = message[:value], message[value:]
		default:
			return errDamaged
		}
		if err := each(next); err != nil {
			return err
		}
	}
	return nil
}

// What is empty is left out, as proto3 does.
func appendBytes(message []byte, number uint64, bytes []byte) []byte {
	if len(bytes) == 0 {
		return message
	}
	message = binary.AppendUvarint(message, number<<3|length)
	message = binary.AppendUvarint(message, uint64(len(bytes)))
	return append(message, bytes...)
}

func appendInt(message []byte, number uint64, value int64) []byte {
	if value == 0 {
		return message
	}
	message = binary.AppendUvarint(message, number<<3|varint)
	return binary.AppendUvarint(message, uint64(value))
}

// A map<string, HeaderFields>, sorted by name, so that one message has one form.
func appendHeader(message []byte, number uint64, header map[string][]string) []byte {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		var values []byte
		for _, value := range header[name] {
			values = binary.AppendUvarint(values, 1<<3|length)
			values = binary.AppendUvarint(values, uint64(len(value)))
			values = append(values, value...)
		}
		message = appendBytes(message, number, appendBytes(appendBytes(nil, 1, []byte(name)), 2, values))
	}
	return message
}

// An entry of such a map.
func addHeader(header map[string][]string, entry []byte) error {
	var name string
	var values []string
	err := fields(entry, func(f field) (err error) {
		switch f.number {
		case 1:
			name = string(f.bytes)
		case 2:
			values, err = texts(f.bytes)
		}
		return err
	})
	header[name] = values
	return err
}

// A HeaderFields or StringSlice.
func texts(message []byte) ([]string, error) {
	var texts []string
	err := fields(message, func(f field) error {
		if f.number == 1 {
			texts = append(texts, string(f.bytes))
		}
		return nil
	})
	return texts, err
}
