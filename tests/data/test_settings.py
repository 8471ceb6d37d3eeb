from dataclasses import fields
from pathlib import Path

import pytest

from data.errors import BadSetting
from data.settings import Settings, load_settings


def test_without_anything_set_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings({}) == Settings()


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('port = 8000\ntemperature = 0.5\nlearner = false\n')
    settings = load_settings({"PORT": "9000"}, file)
    assert (settings.port, settings.temperature, settings.learner) == (9000, 0.5, False)


def test_an_empty_variable_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings({"MAINTAINER_PASSWORD": "", "PORT": ""}) == Settings()


def test_an_empty_value_in_the_file_counts_as_unset_where_there_need_be_none(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('maintainer_password = ""\ncookie_secret = ""\nvllm_url = ""\nsystem_prompt = ""\n')
    assert load_settings({}, file) == Settings()
    assert load_settings({"MAINTAINER_PASSWORD": "hush"}, file).maintainer_password == "hush"


def test_inside_a_space_the_server_listens_for_its_proxy_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings({"SPACE_ID": "me/chat"}).host == "0.0.0.0"
    assert load_settings({"SPACE_ID": "me/chat", "HOST": "127.0.0.1"}).host == "127.0.0.1"


@pytest.mark.parametrize("name, value, says", [
    ("PORT", "eighty", "whole number"), ("PORT", "70000", "from 0 to 65535"), ("TEMPERATURE", "-1", "from 0 to 5"),
    ("TEMPERATURE", "nan", "from 0 to 5"), ("TOP_P", "0", "from 0.01 to 1"), ("ENGINE", "cuda", "openvino"),
    ("TRAIN_EVERY_RATINGS", "1.5", "whole number"), ("KEEP_VERSIONS", "1", "from 2 to"), ("LEARNER", "maybe", "true or false"), ("TRAIN_EVERY_HOURS", "-2", "from 0 to 87600"), ("KL_COEFFICIENT", "inf", "from 0 to 1000"),
])
def test_a_bad_value_is_one_sentence_that_names_the_setting(name, value, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSetting) as error:
        load_settings({name: value})
    assert name in str(error.value) and value in str(error.value) and says in str(error.value)


def test_a_slip_in_a_variables_name_is_said_and_other_programs_names_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for slip, meant in (("TRAIN_EVERY_RATING", "TRAIN_EVERY_RATINGS"), ("BASEMODEL", "BASE_MODEL"), ("STATE_DIRS", "STATE_DIR")):
        with pytest.raises(BadSetting, match=f"^{slip} is no setting; {meant} is"):
            load_settings({slip: "3"})
    others = {"HOSTNAME": "a", "PORTS": "b", "TOP": "c", "SYNC_URI": "d", "MODEL_DIR": "e", "SPACE_HOST": "f", "VLLM_PORT": "g", "CUDA_VISIBLE_DEVICES": "0"}
    assert load_settings(others) == load_settings({})


def test_a_secret_is_never_repeated_in_an_error(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('maintainer_password = "hush"\nunknown_thing = 1\n')
    with pytest.raises(BadSetting, match="unknown_thing") as error:
        load_settings({}, file)
    assert "hush" not in str(error.value)


def test_an_unreadable_or_missing_settings_file_is_said_at_start(tmp_path):
    broken = tmp_path / "settings.toml"
    broken.write_text("port = = 3")
    with pytest.raises(BadSetting, match="not valid TOML"):
        load_settings({}, broken)
    with pytest.raises(BadSetting, match="does not exist"):
        load_settings({"SETTINGS_FILE": str(tmp_path / "none.toml")})


def test_every_setting_has_a_sentence_under_it():
    import ast
    import inspect

    body = ast.parse(inspect.getsource(Settings)).body[0].body
    documented = {node.target.id for node, after in zip(body, body[1:], strict=False)
                  if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)}
    assert documented == {field.name for field in fields(Settings)}


def test_every_path_is_inside_the_state_folder():
    settings = Settings(state_dir=Path("/somewhere"))
    for path in (settings.database, settings.adapters_dir, settings.models_dir, settings.logs_dir):
        assert path.is_relative_to("/somewhere")
