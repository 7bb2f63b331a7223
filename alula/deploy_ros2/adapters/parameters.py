"""Configurations as node parameters: each field a parameter of its name, type, default and documentation."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import fields
from textwrap import dedent
from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.node import Node

from alula.deploy_ros2.node_config import from_plain, plain
from alula.errors import AlulaError

Config = TypeVar("Config")


def declare(node: Node, config: type, prefix: str = "") -> None:
    """Declare a parameter for each field of a configuration; the text under the field describes it.

    Raises:
        AlulaError: a value in a parameter file or on the command line has another type.
    """
    about = descriptions(config)
    default = config()
    for f in fields(config):
        name = prefix + f.name
        value: Any = plain(getattr(default, f.name))
        descriptor = ParameterDescriptor(description=about.get(f.name, ""))
        # An empty list says nothing about the type of its elements.
        descriptor.dynamic_typing = value == [] or value is None
        try:
            node.declare_parameter(name, value, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as e:
            raise AlulaError(f"parameter {name}: {' '.join(str(e).split())}") from None


def read(
    node: Node, config: type[Config], prefix: str = "", known: Mapping[str, object] | None = None
) -> Config:
    """The configuration from the node's parameters.

    Args:
        node: whose parameters.
        config: what they are of.
        prefix: of their names.
        known: values by field that serve where a parameter stands at its default.

    Raises:
        AlulaError: a value out of its range.
    """
    values: dict[str, object] = {}
    for f in fields(config):  # type: ignore[arg-type]
        try:
            value = node.get_parameter(prefix + f.name).value
        except ParameterUninitializedException:
            value = None
        if not isinstance(value, str) and hasattr(value, "__len__"):
            value = list(value)  # type: ignore[call-overload]
        default = plain(getattr(config(), f.name))
        if value is None or value == default:
            value = plain((known or {}).get(f.name, default))
        values[f.name] = value
    try:
        return from_plain(config, values)  # type: ignore[return-value]
    except (TypeError, ValueError) as e:
        raise AlulaError(f"parameter {prefix}{e}") from None


def descriptions(config: type) -> dict[str, str]:
    """The text under each field of a dataclass."""
    body = ast.parse(dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            found[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[union-attr]
    return found
